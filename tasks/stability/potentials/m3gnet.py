"""M3GNet on the weights of a loaded matgl model, with the end of an edge at which messages are summed left open.

The equations of Chen and Ong 2022 (doi:10.1038/s43588-022-00349-3), in the order that costs least. Three-body terms go
by moments: their angular part is a polynomial in cos(theta_jik) = r_ij . r_ik / (|r_ij| |r_ik|) of degree below 3, so
the sum over k is a scalar, a vector and a tensor of each atom i, contracted with the direction of r_ij. First layers of
the update networks are linear in (v_i, v_j, e_ij): the atoms' parts are computed once per atom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import silu

End = Literal["source", "destination"]

MAX_ANGULAR = 3  # l = 0, 1, 2: what the moments below are written out for
# Y_l0 = sqrt((2 l + 1) / 4 pi) P_l(cos theta)
HARMONICS = tuple(math.sqrt((2 * angular + 1) / (4 * math.pi)) for angular in range(MAX_ANGULAR))


@dataclass(frozen=True)
class Edges:
    """Directed edges i -> j on the device. sources (i), destinations (j): (E,), ascending by i.

    vectors: (E, 3) from i to j, A, the leaf of the derivatives. node_types: (N,) places in the model's elements.
    """

    sources: Tensor
    destinations: Tensor
    vectors: Tensor
    node_types: Tensor


class GatedPair:
    """Value and gate branch of a gated perceptron as two batched matrix products, first layer split by its inputs.

    layers, gates: sequences of Linear and activation; hidden activations are SiLU, the last ones SiLU and sigmoid.
    """

    def __init__(self, network: Any, inputs: Sequence[int]) -> None:
        branches = [
            [layer for layer in branch if hasattr(layer, "weight")] for branch in (network.layers, network.gates)
        ]
        first = torch.cat([branch[0].weight for branch in branches])  # (2 H, sum of inputs)
        self.first = [part.t().contiguous() for part in torch.split(first, list(inputs), dim=1)]
        self.first_bias = torch.cat([branch[0].bias for branch in branches])
        self.weights = [
            torch.stack([layer.weight.t() for layer in pair]).contiguous()
            for pair in zip(*(branch[1:] for branch in branches), strict=True)
        ]
        self.biases = [
            torch.stack([layer.bias[None] for layer in pair]) for pair in zip(*(b[1:] for b in branches), strict=True)
        ]

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden: (E, 2 H) sum of the first layer's parts, without its bias."""
        width = hidden.shape[1] // 2
        both = silu(hidden + self.first_bias).view(-1, 2, width).transpose(0, 1)  # (2, E, H)
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            both = torch.baddbmm(bias, both, weight)
            if number < last:
                both = silu(both)
        return silu(both[0]) * torch.sigmoid(both[1])


class M3GNetEnergies:
    """(N,) energies of atoms in eV from edges. model: matgl's M3GNet in evaluation mode.

    end: the end of an edge at which the messages to atoms are summed; the published weights of 2021 and those trained
    by matgl 3 and later differ in it. ValueError where the model has parts that this does not compute.
    """

    def __init__(self, model: Any, end: End) -> None:
        if model.include_state or model.is_intensive or model.max_l > MAX_ANGULAR or model.basis_expansion.use_phi:
            raise ValueError("this M3GNet has state features, an intensive readout or azimuthal angles")
        self.model, self.end = model, end
        self.max_n, self.max_l = int(model.max_n), int(model.max_l)
        self.three_body_cutoff = float(model.threebody_cutoff)
        self.updates = []
        for layer in model.graph_layers:
            edge, node = layer.conv.edge_update_func, layer.conv.node_update_func
            nodes = layer.conv.node_update_func.layers[0].in_features
            width = model.embedding.layer_node_embedding.weight.shape[1]
            inputs = (width, width, nodes - 2 * width)
            self.updates.append((GatedPair(edge, inputs), GatedPair(node, inputs)))

    def __call__(self, edges: Edges) -> Tensor:
        """(N,) atomic energies in the network's own unit, before scale and elemental offsets."""
        model = self.model
        lengths = edges.vectors.norm(dim=1)
        radial = model.bond_expansion(lengths)  # (E, R)
        nodes = model.embedding.layer_node_embedding(edges.node_types)  # (N, F)
        features = model.embedding.layer_edge_embedding(radial)  # (E, F)
        angular = self._angular(edges, lengths)
        target = edges.destinations if self.end == "destination" else edges.sources
        for number, (edge_update, node_update) in enumerate(self.updates):
            three_body, conv = model.three_body_interactions[number], model.graph_layers[number].conv
            features = angular.add_to(features, three_body, nodes, edges)
            per_source = nodes @ torch.cat([edge_update.first[0], node_update.first[0]], dim=1)  # (N, 4 H)
            per_destination = nodes @ torch.cat([edge_update.first[1], node_update.first[1]], dim=1)
            of_edges = per_source.index_select(0, edges.sources) + per_destination.index_select(
                0, edges.destinations
            )  # (E, 4 H)
            for_edge, for_node = of_edges.chunk(2, dim=1)
            features = features + edge_update(for_edge + features @ edge_update.first[2]) * conv.edge_weight_func(
                radial
            )
            messages = node_update(for_node + features @ node_update.first[2]) * conv.node_weight_func(radial)
            nodes = nodes.index_add(0, target, messages)
        energies: Tensor = model.final_layer(nodes)
        return energies.view(-1)

    def _angular(self, edges: Edges, lengths: Tensor) -> Angular:
        near = torch.nonzero(lengths <= self.three_body_cutoff)[:, 0]
        near_lengths = lengths.index_select(0, near)
        ratio = near_lengths / self.three_body_cutoff
        cutoff = 1 + ratio**3 * (-10 + ratio * (15 - 6 * ratio))  # the envelope of exponent 3, with zero derivatives
        directions = edges.vectors.index_select(0, near) / near_lengths[:, None]
        # (E', n l) columns by l, then n: the same order as the angular part's, each order repeated max_n times
        basis = self.model.basis_expansion.sbf(near_lengths)
        return Angular(near, directions, basis, cutoff, self.max_n, self.max_l)


@dataclass(frozen=True)
class Angular:
    """Geometry of the E' edges within the three-body cutoff.

    near: (E',) their places among the E. directions: (E', 3) unit vectors. basis: (E', l n) radial, blocks of one l.
    cutoff: (E',) smooth envelope.
    """

    near: Tensor
    directions: Tensor
    basis: Tensor
    cutoff: Tensor
    max_n: int
    max_l: int

    def add_to(self, features: Tensor, three_body: Any, nodes: Tensor, edges: Edges) -> Tensor:
        """Edge features (E, F) plus the network of sum_k basis(r_ik, theta_jik) s(v_k) f(r_ij) f(r_ik), k not j."""
        sources, destinations = edges.sources[self.near], edges.destinations[self.near]
        ends = three_body.update_network_atom(nodes).index_select(0, destinations)  # (E', l n)
        weights = (self.basis * ends * self.cutoff[:, None]).split(self.max_n, dim=1)  # per l: (E', n)
        sums = []
        for angular, weight in enumerate(weights):
            total = self._moment(angular, weight, sources, len(nodes)) - weight  # P_l(1) = 1: k = j is left out
            sums.append(HARMONICS[angular] * total)
        update = three_body.update_network_bond(torch.cat(sums, dim=1) * self.cutoff[:, None])
        return features.index_add(0, self.near, update)

    def _moment(self, angular: int, weight: Tensor, sources: Tensor, num_nodes: int) -> Tensor:
        """(E', n) sum over all edges ik of weight_ik P_l(cos theta_jik)."""
        unit = self.directions
        if angular == 0:
            return weight.new_zeros(num_nodes, self.max_n).index_add(0, sources, weight).index_select(0, sources)
        if angular == 1:
            vectors = weight[:, :, None] * unit[:, None, :]  # (E', n, 3)
            sums = weight.new_zeros(num_nodes, self.max_n, 3).index_add(0, sources, vectors)
            return torch.einsum("enx,ex->en", sums.index_select(0, sources), unit)
        tensors = unit[:, :, None] * unit[:, None, :] - torch.eye(3, dtype=unit.dtype, device=unit.device) / 3
        tensors = tensors.flatten(1)  # (E', 9), traceless: P_2(u.v) = 3/2 (uu - 1/3) : (vv - 1/3)
        moments = weight.new_zeros(num_nodes, self.max_n, 9)
        moments = moments.index_add(0, sources, weight[:, :, None] * tensors[:, None, :])
        return 1.5 * torch.einsum("enx,ex->en", moments.index_select(0, sources), tensors)
