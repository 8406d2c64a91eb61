"""CHGNet on a whole batch at once: the loaded model of the `chgnet` package, graphs built with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.arrays import IntArray
from tasks.stability.potentials.neighbours import Neighbours, edge_pairs


def pair_directions(found: Neighbours) -> tuple[IntArray, IntArray]:
    """Edges in one direction, and the reverse of each: (U,) and (U,) places among the E.

    ValueError where the list is not symmetric.
    """
    first, second, images = found.centres, found.neighbours, found.images
    # Of an atom's own images, those count as forward whose first component that is not zero is positive.
    sign = np.sign(np.sign(images) @ np.array([4, 2, 1]))
    is_forward = (first < second) | ((first == second) & (sign > 0))
    forward, reverse = np.flatnonzero(is_forward), np.flatnonzero(~is_forward)
    keys = np.stack([*images.T, second, first])
    mirrored = np.stack([*(-images.T), first, second])
    ordered = forward[np.lexsort(keys[:, forward])]
    partners = reverse[np.lexsort(mirrored[:, reverse])]
    if not np.array_equal(keys[:, ordered], mirrored[:, partners]):
        raise ValueError("the neighbour list is not symmetric")
    return ordered, partners


class CHGNetEnergies:
    """(N,) energies of atoms in eV. model: chgnet's CHGNet in evaluation mode (version 0.3.0).

    Deng et al. 2023, doi:10.1038/s42256-023-00716-3.
    """

    def __init__(self, model: Any) -> None:
        if not model.mlp_first or model.composition_model is None:
            raise ValueError("this CHGNet has another readout or no composition model")
        self.model = model
        self.atom_cutoff = float(model.graph_converter.atom_graph_cutoff)
        self.bond_cutoff = float(model.graph_converter.bond_graph_cutoff)

    def __call__(self, found: Neighbours, vectors: Tensor) -> Tensor:
        """vectors: (E, 3) those of `found` on the device, the leaf of the derivatives."""
        from chgnet.model.model import BatchedGraph

        model, device = self.model, vectors.device
        forward, reverse = pair_directions(found)
        undirected = np.empty(len(found.centres), dtype=np.int64)
        undirected[forward] = undirected[reverse] = np.arange(len(forward))
        lengths = np.linalg.norm(found.vectors, axis=1)
        short = np.flatnonzero(lengths < self.bond_cutoff)
        first, second = (short[pair] for pair in edge_pairs(found.centres[short]))

        def on_device(array: IntArray) -> Tensor:
            return torch.tensor(array, device=device, dtype=torch.int32)

        bond_lengths = vectors[torch.from_numpy(forward).to(device)].norm(dim=1)
        basis = model.bond_basis_expansion
        units = -vectors / vectors.norm(dim=1, keepdim=True)  # from the neighbour to the centre, as the network has it
        angles = model.angle_basis_expansion(units[on_device(first)], units[on_device(second)])
        bond_graph = np.stack([found.centres[first], undirected[first], undirected[second]], axis=1)
        numbers = on_device(found.atomic_numbers)
        graph = BatchedGraph(
            atomic_numbers=numbers,
            bond_bases_ag=basis.rbf_expansion_ag(bond_lengths),
            bond_bases_bg=basis.rbf_expansion_bg(bond_lengths),
            angle_bases=angles,
            batched_atom_graph=on_device(np.stack([found.centres, found.neighbours], axis=1)),
            batched_bond_graph=on_device(bond_graph),
            atom_owners=on_device(found.crystal_of_atom),
            directed2undirected=on_device(undirected),
            atom_positions=(),
            strains=(),
            volumes=(),
        )
        site_energies = torch.cat(list(model._compute(graph, return_site_energies=True)["site_energies"]))
        offsets = model.composition_model.fc.weight.view(-1)
        energies: Tensor = site_energies + offsets[numbers.long() - 1]
        return energies
