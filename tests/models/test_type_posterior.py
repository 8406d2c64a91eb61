"""The posterior head: types by Bayes' rule, a network that starts as it, and nothing where it is not asked for."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.crysldm.latent_diffusion import CrysLDM
from models.cspnet import CSPNet, CSPNetConfig
from models.dense import DenseBatch, pack
from models.diffusion import SeededNoise, add_noise
from models.presets import preset
from models.training.run import lacks_head, load_start
from models.type_posterior import ClosedForm, LoneAtoms, PosteriorHead, urn_logits
from models.weights import save_weights, weights_path
from tests.random_crystals import random_crystals

NET = CSPNetConfig(node_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4)
TYPES, ATOMS = 5, 3


def atoms(variance: float) -> LoneAtoms:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(TYPES, 3, generator=generator, dtype=torch.float64)
    return LoneAtoms(codes, torch.tensor([0.4, 0.3, 0.2, 0.05, 0.05], dtype=torch.float64).log(), variance)


def with_head(variance: float = 0.3) -> CSPNet:
    """A network in double precision whose head is fitted and whose parameters are no longer zero."""
    network = CSPNet(replace(NET, type_posterior=TYPES)).double()
    alone = atoms(variance)
    assert network.head is not None
    network.head.fit(torch.ones(TYPES), alone.codes, variance)
    network.head.log_frequencies.copy_(alone.log_frequencies)
    return network


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, ATOMS, 3), (2, ATOMS, 3), (2, 3, 3), (2, 4)
    nodes, x, lattices, times = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return nodes, x, lattices, times


@pytest.mark.parametrize(("variance", "alpha_bar"), list(itertools.product((0.0, 0.3), (0.05, 0.6, 0.999))))
def test_the_closed_form_is_the_sum_over_all_types_and_codes(variance: float, alpha_bar: float) -> None:
    """Each type's density at the value and the mean of its clean code there, summed on a fine grid of codes."""
    codes, frequencies = (
        torch.tensor([[-1.0], [0.2], [1.5]], dtype=torch.float64),
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    )
    alone = LoneAtoms(codes, frequencies.log(), variance)
    for value, logits in itertools.product((-0.8, 0.1, 1.3), ([0.0, 0.0, 0.0], [0.0, 2.0, -1.0])):
        masses, means = [], []
        for code, frequency, logit in zip(alone.codes[:, 0], alone.log_frequencies.exp(), logits, strict=True):
            spread = variance**0.5
            clean = code + spread * torch.linspace(-9, 9, 40_001).double() if spread else code[None]
            weight = torch.exp(-0.5 * ((clean - code) / spread) ** 2) if spread else torch.ones(1).double()
            weight = weight / weight.sum() * torch.exp(-0.5 * (value - alpha_bar**0.5 * clean) ** 2 / (1 - alpha_bar))
            masses.append(float(frequency * math.exp(logit) * weight.sum()))
            means.append(float((weight * clean).sum() / weight.sum()) if weight.sum() > 0 else 0.0)
        total = sum(masses)
        noisy = torch.tensor([value], dtype=torch.float64)
        found = alone.type_logits(noisy, alpha_bar) + torch.tensor(logits)
        assert found.softmax(-1).tolist() == pytest.approx([mass / total for mass in masses], abs=1e-7)
        clean_mean = sum(mass * mean for mass, mean in zip(masses, means, strict=True)) / total
        eps = (value - alpha_bar**0.5 * clean_mean) / (1 - alpha_bar) ** 0.5
        assert float(alone.noise_given(found, noisy, alpha_bar)) == pytest.approx(eps, abs=1e-7)


def test_a_new_head_predicts_what_lone_atoms_have() -> None:
    network, given, alpha_bar = with_head(), inputs(), torch.tensor([0.2, 0.9]).double()
    out, type_logits = network.with_type_logits(*given, alpha_bar)
    alone = atoms(0.3)
    for crystal, share in enumerate(alpha_bar.tolist()):
        assert torch.allclose(out.node[crystal], alone.noise(given[0][crystal], share))
        logits = alone.type_logits(given[0][crystal], share)
        assert type_logits is not None and torch.allclose(type_logits[crystal].softmax(-1), logits.softmax(-1))


def test_inputs_of_the_head_are_the_chances_of_the_other_atoms() -> None:
    """By all combinations of types that the other atoms may have."""
    head = PosteriorHead(TYPES, 3, 1).double()
    logits = torch.randn(1, ATOMS, TYPES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chances = logits.softmax(-1)[0]
    for column in range(3 * TYPES):
        head.types_in.weight.data.zero_()[0, column] = 1.0
        kind, of = divmod(column, TYPES)
        for atom, found in enumerate(head.embedded(ClosedForm(logits, None))[0, :, 0].tolist()):
            others = [k for k in range(ATOMS) if k != atom]
            some, share = 0.0, 0.0
            for types in itertools.product(range(TYPES), repeat=len(others)):
                chance = math.prod(float(chances[k, t]) for k, t in zip(others, types, strict=True))
                some += chance * (of in types)
                share += chance * types.count(of) / len(others)
            assert found == pytest.approx((float(chances[atom, of]), some, share)[kind], abs=1e-9)


def test_a_lone_atom_and_a_certain_one_give_numbers() -> None:
    head = PosteriorHead(TYPES, 3, 2)
    head.types_in.weight.data.fill_(1.0)
    certain = torch.tensor([[[1e4, 0.0, 0.0, 0.0, 0.0]]]).requires_grad_()
    for logits in (certain, certain.expand(1, ATOMS, TYPES)):
        embedded = head.embedded(ClosedForm(logits, None))
        embedded.sum().backward()
        assert torch.isfinite(embedded).all() and torch.isfinite(certain.grad).all()


def test_atoms_in_another_order_get_the_same_in_that_order() -> None:
    network, (nodes, x, lattices, times) = with_head(), inputs()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    alpha_bar, order = torch.tensor([0.3, 0.7]).double(), [2, 0, 1]
    out, logits = network.with_type_logits(nodes, x, lattices, times, alpha_bar)
    turned, turned_logits = network.with_type_logits(nodes[:, order], x[:, order], lattices, times, alpha_bar)
    assert logits is not None and turned_logits is not None
    assert torch.allclose(out.node[:, order], turned.node) and torch.allclose(out.lattice, turned.lattice)
    assert torch.allclose(logits[:, order], turned_logits)
    assert not torch.allclose(out.node, atoms(0.3).noise(nodes, alpha_bar[:, None, None]))  # no longer the closed form


def test_without_the_option_a_network_is_the_published_one() -> None:
    torch.manual_seed(3)
    plain = CSPNet(NET)
    torch.manual_seed(3)
    posterior = CSPNet(replace(NET, type_posterior=TYPES))
    assert plain.head is None and "type_posterior" not in "".join(plain.state_dict())
    added = posterior.state_dict().keys() - plain.state_dict().keys()
    assert added == {f"head.{key}" for key in PosteriorHead(TYPES, 3, 8).state_dict()}
    shared = plain.state_dict().keys() - {"node_out.weight", "node_out.bias"}
    assert all(torch.equal(plain.state_dict()[key], posterior.state_dict()[key]) for key in shared)
    given = [tensor.float() for tensor in inputs()]
    out, type_logits = plain.with_type_logits(*given)
    assert type_logits is None
    assert all(torch.equal(a, b) for a, b in zip(out, plain(*given, torch.tensor([0.1, 0.2])), strict=True))


def test_a_head_that_was_not_fitted_or_is_not_told_the_signal_is_found_out() -> None:
    network = CSPNet(replace(NET, type_posterior=TYPES)).double()
    assert network(*inputs(), torch.tensor([0.1, 0.2]).double()).node.isnan().all()
    with pytest.raises(ValueError, match="alpha_bar"):
        with_head()(*inputs())


def test_a_posterior_head_starts_on_the_papers_weights() -> None:
    """CrysLDM's and DiffCSP's: all but the output of types is theirs, and their codes tell types apart."""
    for name in ("crysldm", "diffcsp"):
        chosen = preset(f"{name}-posterior", "mp20", "cpu")
        model: Any = chosen.build(0)
        load_start(model, weights_path(name, "mp20", "cpu"), chosen.config)
        assert lacks_head(model)
        batches = pack(random_crystals([2, 3, 3, 4], seed=0, skew=0.3))
        model.fit_head(batches)
        assert not lacks_head(model)
        batch = max(batches, key=len)
        noise = SeededNoise.from_seed(0, "cpu")
        clean = model.encode(batch, noise)[0] if isinstance(model, CrysLDM) else one_hot(batch)
        for alpha_bar, told in ((0.9999, 1.0), (1e-4, 0.0)):
            noisy = add_noise(clean, noise.normal("eps", tuple(clean.shape)), alpha_bar)
            logits = model.lone_atoms().type_logits(noisy, alpha_bar)
            right = (logits.argmax(-1) == batch.atomic_numbers - 1).float().mean()
            assert right == 1.0 if told else right < 1.0
        losses = model.losses(batch, noise)
        assert torch.isfinite(losses["cross_entropy"]) and losses["loss"].requires_grad


def one_hot(batch: DenseBatch) -> Tensor:
    return torch.nn.functional.one_hot(batch.atomic_numbers - 1, 100).float()


def test_weights_with_a_head_are_no_start_for_a_network_without(tmp_path: Path) -> None:
    small = DiffCSPConfig(network=replace(NET, node_dim=100), num_steps=5, loss_weights=(1.0, 1.0, 20.0, 4.0))
    posterior = replace(small, network=replace(small.network, type_posterior=100))
    path = tmp_path / "weights.safetensors"
    save_weights(path, DiffCSP(posterior).state_dict(), {"config": asdict(posterior)})
    with pytest.raises(ValueError, match="differs in network"):
        load_start(DiffCSP(small), path, small)
    load_start(DiffCSP(posterior), path, posterior)


def test_no_paper_has_these_models() -> None:
    with pytest.raises(ValueError, match="no preset paper for crysldm-posterior"):
        preset("crysldm-posterior", "mp20", "paper")
