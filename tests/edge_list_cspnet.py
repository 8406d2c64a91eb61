"""CSPNet written plainly with edge lists, as the published implementations lay it out: the oracle of the dense layout.

Each call builds the block-diagonal adjacency; each layer, complete in itself like eqs. 13 and 14, embeds the distances,
gathers both ends of every edge, concatenates all edge inputs and scatters the messages back.
"""

import math

import torch
from torch import nn


def fully_connected_edges(num_atoms):
    """(2, E) atom indices of all ordered pairs within each crystal, an atom with itself included."""
    adjacency = torch.block_diag(*[torch.ones(n, n) for n in num_atoms.tolist()])
    return adjacency.nonzero().T


def mean_by_index(values, index, size):
    """(size, H) mean of the rows of `values` that share an index."""
    target = torch.zeros(size, values.shape[1], dtype=values.dtype)
    return target.scatter_reduce(0, index[:, None].expand_as(values), values, "mean", include_self=False)


class EdgeListCSPNet(nn.Module):
    """Takes the modules of a dense CSPNet, so both have the same weights; computes one edge at a time in the batch."""

    def __init__(self, dense):
        super().__init__()
        self.dense = dense
        self.config = dense.config

    def ragged(self, nodes, frac_coords, lattices, time_features, num_atoms):
        """nodes: (sum N, F). frac_coords: (sum N, 3). lattices: (B, 3, 3). time_features: (B, T). num_atoms: (B,)."""
        net = self.dense
        crystal = torch.arange(len(num_atoms)).repeat_interleave(num_atoms)
        i, j = fully_connected_edges(num_atoms)
        frequencies = 2 * math.pi * torch.arange(self.config.num_frequencies, dtype=nodes.dtype)
        difference = (frac_coords[j] - frac_coords[i]) % 1.0
        features = net.time_mixing(torch.cat([net.node_embedding(nodes), time_features[crystal]], dim=1))
        silu = nn.functional.silu
        for layer in net.trunk.layers:
            h = layer.norm(features)
            angles = (difference[..., None] * frequencies).flatten(1)
            fourier = torch.cat([angles.sin(), angles.cos()], dim=1)
            gram = (lattices @ lattices.transpose(1, 2)).flatten(1)[crystal[i]]
            edge = silu(layer.edge_in(torch.cat([h[i], h[j], gram, fourier], dim=1)))
            message = mean_by_index(silu(layer.edge_out(edge)), i, len(nodes))
            features = features + silu(layer.node_out(silu(layer.node_in(torch.cat([h, message], dim=1)))))
        features = net.trunk.final_norm(features)
        lattice = net.lattice_out(mean_by_index(features, crystal, len(num_atoms))).view(-1, 3, 3)
        if self.config.equivariant_lattice:
            lattice = lattice @ lattices
        return lattice, net.coord_out(features), net.node_out(features)

    def forward(self, nodes, frac_coords, lattices, time_features):
        """The dense network's signature: (B, N, ...) in and out."""
        from models.cspnet import CSPNetOutput

        batch, n = nodes.shape[:2]
        lattice, coord, node = self.ragged(
            nodes.flatten(0, 1), frac_coords.flatten(0, 1), lattices, time_features, torch.full((batch,), n)
        )
        return CSPNetOutput(lattice, coord.unflatten(0, (batch, n)), node.unflatten(0, (batch, n)))
