"""Equivariant convolutions: the same sums and slopes as e3nn's tensor product, message by message."""

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps, TensorProduct, spherical_harmonics

from tasks.stability.potentials import convolution
from tasks.stability.potentials.convolution import Convolution, Couplings, make_sums

INPUTS, HARMONICS = Irreps("4x0e + 3x1e + 2x2e"), Irreps("0e + 1e + 2e")


def product():
    """All paths up to l = 2, as networks have them."""
    parts, instructions = [], []
    for i, (mul, ir) in enumerate(INPUTS):
        for j, (_, harmonic) in enumerate(HARMONICS):
            for out in ir * harmonic:
                if out.l <= 2:
                    instructions.append((i, j, len(parts), "uvu", True))
                    parts.append((mul, out))
    parts, places, _ = Irreps(parts).sort()
    instructions = sorted(((i, j, places[k], mode, train) for i, j, k, mode, train in instructions), key=lambda x: x[2])
    return TensorProduct(INPUTS, HARMONICS, parts, instructions, shared_weights=False, internal_weights=False)


@pytest.mark.parametrize("padded_edges", [4, 256])  # below the edges of one atom; all in one chunk
def test_sums_and_slopes_are_those_of_e3nns_tensor_product_message_by_message(monkeypatch, padded_edges):
    monkeypatch.setattr(convolution, "PADDED_EDGES", padded_edges)
    rng, whole = np.random.default_rng(0), product()
    num_atoms, bonds = 6, 17
    one, other = rng.integers(0, num_atoms - 1, (2, bonds))  # the last atom has no edge
    centres, neighbours = np.concatenate([one, other]), np.concatenate([other, one])
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(bonds, 3, generator=generator)
    features = torch.randn(num_atoms, INPUTS.dim, generator=generator)
    weights = torch.randn(bonds, whole.weight_numel, generator=generator)
    leaves = [tensor.requires_grad_() for tensor in (vectors, features, weights)]
    harmonics = spherical_harmonics(HARMONICS, torch.cat([vectors, -vectors]), True, "component")
    messages = whole(features[neighbours], harmonics, torch.cat([weights, weights]))
    theirs = torch.zeros(num_atoms, whole.irreps_out.dim).index_add(0, torch.from_numpy(centres), messages)

    own = Convolution(whole)
    sums = make_sums(centres, neighbours, num_atoms, torch.device("cpu"))
    couplings = Couplings([own], 2)(harmonics, sums)
    ours = own(features, weights[:, own.columns] * own.factors, sums, [couplings[g.degrees] for g in own.groups])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

    towards = torch.randn(theirs.shape, generator=generator)
    for mine, right in zip(
        torch.autograd.grad((ours * towards).sum(), leaves, retain_graph=True),
        torch.autograd.grad((theirs * towards).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, right, atol=1e-4, rtol=1e-4)
