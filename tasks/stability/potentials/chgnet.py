"""CHGNet on the weights of the loaded model of the `chgnet` package, in the order that costs least.

Layers are linear in what they begin with, atoms, bonds and angles side by side: the part of each is computed once per
atom, per undirected bond or per directed short bond, and not once per message. Bonds that are too long for the bond
graph keep their features, so their part of all layers follows from the radial basis in one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from tasks.stability.potentials.neighbours import Neighbours, edge_pairs, pair_directions


@dataclass(frozen=True)
class Graph:
    """Places in a batch of N atoms, U undirected bonds and S short ones; directed ones lie behind each other.

    centres, neighbours: (2 U,) atoms of each directed bond, all in one direction first, then their reverses.
    bonds: (U,) places among the E edges. short: (S,) places among the U. short_centres: (2 S,) atoms.
    first, second: (T,) of each angle, directed short bonds with one centre; its mirror lies T / 2 on.
    first_bond, second_bond: (T,) their places among the S.
    """

    centres: Tensor
    neighbours: Tensor
    bonds: Tensor
    short: Tensor
    short_centres: Tensor
    first: Tensor
    second: Tensor
    first_bond: Tensor
    second_bond: Tensor


def make_graph(found: Neighbours, bond_cutoff: float, device: torch.device) -> Graph:
    """Bonds at most `bond_cutoff` A long are short."""
    bonds, _ = pair_directions(found)
    one, other = found.centres[bonds], found.neighbours[bonds]
    short = np.flatnonzero(np.linalg.norm(found.vectors[bonds], axis=1) < bond_cutoff)
    short_centres = np.concatenate([one[short], other[short]])
    by_centre = np.argsort(short_centres, kind="stable")
    pairs = [by_centre[places] for places in edge_pairs(short_centres[by_centre])]
    once = pairs[0] < pairs[1]
    first, second = (
        np.concatenate([pairs[0][once], pairs[1][once]]),
        np.concatenate([pairs[1][once], pairs[0][once]]),
    )
    arrays = (
        np.concatenate([one, other]),
        np.concatenate([other, one]),
        bonds,
        short,
        short_centres,
        first,
        second,
        first % max(len(short), 1),
        second % max(len(short), 1),
    )
    return Graph(*(torch.from_numpy(array).to(device) for array in arrays))


class Gated:
    """A gated perceptron, silu(norm(core)) sigmoid(norm(gate)), whose first layer is split by its inputs.

    network: chgnet's GatedMLP with layer norms. widths: of its inputs, in order. first: per input (width, 2 H), core
    and gate side by side; first_bias: (2 H,).
    """

    def __init__(self, network: Any, widths: Sequence[int]) -> None:
        branches = [[m for m in mlp.layers if hasattr(m, "weight")] for mlp in (network.mlp_core, network.mlp_gate)]
        if network.norm != "layer" or not all(len(branch) in (1, 2) for branch in branches):
            raise ValueError("this CHGNet has other gated perceptrons")
        first = torch.cat([branch[0].weight for branch in branches])  # (2 H, inputs)
        self.first = [part.t().contiguous() for part in torch.split(first, list(widths), dim=1)]
        self.first_bias = torch.cat([branch[0].bias for branch in branches])
        self.second = [(layer.weight.t().contiguous(), layer.bias) for branch in branches for layer in branch[1:]]
        self.norms = [(norm.normalized_shape, norm.weight, norm.bias, norm.eps) for norm in (network.bn1, network.bn2)]

    def __call__(self, hidden: Tensor) -> Tensor:
        """(n, F) from hidden (n, 2 H), the sum of the first layer's parts and its bias."""
        both: Sequence[Tensor]
        if self.second:
            halves = silu(hidden).chunk(2, dim=1)
            both = [torch.addmm(bias, half, weight) for half, (weight, bias) in zip(halves, self.second, strict=True)]
        else:
            both = [half.contiguous() for half in hidden.chunk(2, dim=1)]
        core, gate = (layer_norm(branch, *norm) for branch, norm in zip(both, self.norms, strict=True))
        return silu(core) * torch.sigmoid(gate)


class CHGNetEnergies:
    """(N,) energies of atoms in eV. model: chgnet's CHGNet in evaluation mode (version 0.3.0).

    Deng et al. 2023, doi:10.1038/s42256-023-00716-3. ValueError where the model has parts that this does not compute.
    """

    def __init__(self, model: Any) -> None:
        if not model.mlp_first or model.composition_model is None:
            raise ValueError("this CHGNet has another readout or no composition model")
        convolutions = [*model.atom_conv_layers, *model.bond_conv_layers]
        if not all(_is_plain(layer) for layer in convolutions) or None in model.angle_layers[:-1]:
            raise ValueError("this CHGNet has other convolutions")
        self.model = model
        self.atom_cutoff = float(model.graph_converter.atom_graph_cutoff)
        self.bond_cutoff = float(model.graph_converter.bond_graph_cutoff)
        width = model.atom_embedding.embedding.weight.shape[1]
        bond_width, angle_width = (m.weight.shape[0] for m in (model.bond_embedding, model.angle_embedding))
        of_atoms, of_angles = (width, bond_width, width), (bond_width, bond_width, angle_width, width)
        self.atom_layers = [Gated(layer.twoBody_atom, of_atoms) for layer in model.atom_conv_layers]
        self.bond_layers = [Gated(layer.twoBody_bond, of_angles) for layer in model.bond_conv_layers]
        # The last update of angles leads nowhere: no layer of bonds follows.
        self.angle_layers = [Gated(layer.twoBody_bond, of_angles) for layer in model.angle_layers[:-1]]
        embedding = model.bond_embedding.weight.t()  # (R, F): of the bonds that keep it, the first layer follows
        self.radial_to_hidden = [embedding @ layer.first[1] for layer in self.atom_layers]

    def __call__(self, found: Neighbours, vectors: Tensor) -> Tensor:
        """vectors: (E, 3) those of `found` on the device, the leaf of the derivatives."""
        model = self.model
        graph = make_graph(found, self.bond_cutoff, vectors.device)
        one_way = vectors.index_select(0, graph.bonds)
        lengths = one_way.norm(dim=1)
        radial = model.bond_basis_expansion.rbf_expansion_ag(lengths)  # (U, R)
        weights = model.bond_weights_ag(radial)  # (U, F)
        short_lengths = lengths.index_select(0, graph.short)
        short_weights = model.bond_weights_bg(model.bond_basis_expansion.rbf_expansion_bg(short_lengths))  # (S, F)
        bonds = model.bond_embedding(radial.index_select(0, graph.short))  # (S, F), of short ones
        unchanged = bonds
        angles = self._angles(graph, one_way.index_select(0, graph.short) / short_lengths[:, None])  # (T / 2, F)
        numbers = torch.tensor(found.atomic_numbers, device=vectors.device)
        atoms = model.atom_embedding(numbers - 1)  # (N, F)
        for number, layer in enumerate(self.atom_layers):
            of_bonds = torch.addmm(layer.first_bias, radial, self.radial_to_hidden[number])  # (U, 2 H)
            if number > 0:
                of_bonds = of_bonds.index_add(0, graph.short, (bonds - unchanged) @ layer.first[1])
            hidden = (atoms @ layer.first[0]).index_select(0, graph.centres)
            hidden = hidden + (atoms @ layer.first[2]).index_select(0, graph.neighbours)  # (2 U, 2 H)
            messages = layer((hidden.view(2, *of_bonds.shape) + of_bonds).view_as(hidden))
            messages = (messages.view(2, *weights.shape) * weights).view_as(messages)
            sums = torch.zeros_like(atoms).index_add(0, graph.centres, messages)
            atoms = atoms + model.atom_conv_layers[number].mlp_out(sums)
            if number < len(self.bond_layers):
                hidden = self._hidden_of_angles(graph, self.bond_layers[number], atoms, bonds, angles)
                updates = self.bond_layers[number](hidden) * short_weights.index_select(0, graph.second_bond)
                sums = torch.zeros_like(bonds).index_add(0, graph.first_bond, updates) * short_weights
                bonds = bonds + model.bond_conv_layers[number].mlp_out(sums)
            if number < len(self.angle_layers):
                hidden = self._hidden_of_angles(graph, self.angle_layers[number], atoms, bonds, angles)
                angles = _mirrored(angles, hidden) + self.angle_layers[number](hidden)  # (T, F): no longer symmetric
        if model.readout_norm is not None:
            atoms = model.readout_norm(atoms)
        offsets = model.composition_model.fc.weight.view(-1)
        energies: Tensor = model.mlp(atoms).view(-1) + offsets[numbers - 1]
        return energies

    def _angles(self, graph: Graph, units: Tensor) -> Tensor:
        """(T / 2, F) features of angles and of their mirrors. units: (S, 3) along short bonds, one way."""
        directed = torch.cat([units, -units])
        half = len(graph.first) // 2
        sides = (directed.index_select(0, places[:half]) for places in (graph.first, graph.second))
        features: Tensor = self.model.angle_embedding(self.model.angle_basis_expansion(*sides))
        return features

    def _hidden_of_angles(self, graph: Graph, layer: Gated, atoms: Tensor, bonds: Tensor, angles: Tensor) -> Tensor:
        """(T, 2 H) of a layer that takes two bonds, their angle and their centre. angles: (T, F), or (T / 2, F)."""
        centred = (atoms @ layer.first[3] + layer.first_bias).index_select(0, graph.short_centres)
        of_bonds = bonds @ layer.first[0]
        centred = (centred.view(2, *of_bonds.shape) + of_bonds).view_as(centred)  # (2 S, 2 H)
        hidden = centred.index_select(0, graph.first)
        hidden = hidden + (bonds @ layer.first[1]).index_select(0, graph.second_bond)
        return _mirrored(angles @ layer.first[2], hidden) + hidden


def _mirrored(values: Tensor, like: Tensor) -> Tensor:
    """Values of T angles, from those of the T / 2 that are their own mirror's too."""
    return values if len(values) == len(like) else torch.cat([values, values])


def _is_plain(convolution: Any) -> bool:
    """Whether it ends with a linear layer without bias, adds what it began with and normalises nothing."""
    if not convolution.use_mlp_out or not convolution.resnet:
        return False
    norm = convolution.atom_norm if hasattr(convolution, "atom_norm") else convolution.bond_norm
    last = convolution.mlp_out.layers
    return norm is None and all(layer.bias is None for layer in last if hasattr(layer, "weight"))
