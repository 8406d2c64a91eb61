"""SevenNet on a batch of crystals: the loaded model of the `sevenn` package, up to the energies of atoms.

Its convolutions, nearly all of its cost, are computed by `convolution`. Park et al. 2024, doi:10.1021/acs.jctc.4c00190.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.arrays import IntArray
from tasks.stability.potentials.convolution import Convolution, Couplings, Sums, make_sums
from tasks.stability.potentials.neighbours import Neighbours, pair_directions


class SevenNetEnergies:
    """(N,) energies of atoms in eV. model: sevenn's AtomGraphSequential in evaluation mode.

    ValueError where the model needs to be told the level of theory, or has other convolutions.
    """

    def __init__(self, model: Any) -> None:
        from sevenn.nn.convolution import IrrepsConvolution

        if model.modal_map:
            raise ValueError("this SevenNet was trained on several levels of theory")
        self.model = model
        model.set_is_batch_data(True)
        self.layers = {m: Layer(m) for m in model if isinstance(m, IrrepsConvolution)}
        harmonics = model.edge_embedding.spherical.irreps_out
        self.couplings = Couplings([layer.convolution for layer in self.layers.values()], harmonics.lmax)
        # Y_l of the reverse direction.
        self.signs = torch.cat([torch.full((ir.dim,), (-1.0) ** ir.l) for _, ir in harmonics])

    def __call__(self, found: Neighbours, vectors: Tensor) -> Tensor:
        """vectors: (E, 3) those of `found` on the device, the leaf of the derivatives."""
        import sevenn._keys as keys

        def on_device(array: IntArray) -> Tensor:
            return torch.tensor(array, device=vectors.device)

        forward, _ = pair_directions(found)
        one, other = found.centres[forward], found.neighbours[forward]
        ends = np.concatenate([one, other]), np.concatenate([other, one])
        sums = make_sums(*ends, len(found.crystal_of_atom), vectors.device)
        data = {
            keys.ATOMIC_NUMBERS: on_device(found.atomic_numbers),
            keys.EDGE_IDX: on_device(np.stack(ends)),
            keys.EDGE_VEC: vectors.index_select(0, on_device(forward)),
            keys.NUM_ATOMS: on_device(np.bincount(found.crystal_of_atom, minlength=found.num_crystals)),
            keys.BATCH: on_device(found.crystal_of_atom),
        }
        data = self.model.edge_embedding(data)
        one_way = data[keys.EDGE_ATTR]
        couplings = self.couplings(torch.cat([one_way, one_way * self.signs.to(one_way.device)]), sums)
        types = self.model._atomic_numbers_to_onehot(data[keys.ATOMIC_NUMBERS])
        data[keys.NODE_FEATURE] = types
        for module in self.model:
            if module is self.model.edge_embedding:
                continue
            if module in self.layers:
                features = self.layers[module](data[keys.NODE_FEATURE], data[keys.EDGE_EMBEDDING], sums, couplings)
                data[keys.NODE_FEATURE] = features
            else:
                data = module(data)
            if keys.ATOMIC_ENERGY in data:
                break
        energies: Tensor = data[keys.ATOMIC_ENERGY].view(-1)
        return energies


class Layer:
    """One convolution. module: sevenn's IrrepsConvolution."""

    def __init__(self, module: Any) -> None:
        self.convolution = Convolution(module.convolution)
        *self.hidden, last = module.weight_nn
        scale = (last.h_in * last.var_in / last.var_out) ** 0.5 * module.denominator
        columns, factors = (t.to(last.weight.device) for t in (self.convolution.columns, self.convolution.factors))
        self.last = last.weight[:, columns] * factors / scale

    def __call__(
        self, features: Tensor, radial: Tensor, sums: Sums, couplings: dict[tuple[int, int], list[Tensor]]
    ) -> Tensor:
        """features: (N, inputs). radial: (U, R) of undirected bonds. couplings: by degrees, for each chunk."""
        for layer in self.hidden:
            radial = layer(radial)
        own = [couplings[group.degrees] for group in self.convolution.groups]
        return self.convolution(features, radial @ self.last, sums, own)
