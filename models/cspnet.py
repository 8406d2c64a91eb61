"""CSPNet, the periodic E(3)-invariant network of DiffCSP and CrysLDM, in the dense layout.

Every atom of a crystal sees every atom, itself among them, so a layer's messages are one (B, N, N, H) tensor and need
no edge lists. Two identities make it about twice as cheap as the published edge lists, exactly:

- the first edge layer is linear in (h_i, h_j, cell, Fourier features), so it is applied per atom and per cell and
  the results are broadcast;
- the Fourier features of x_j - x_i are odd (sines) or even (cosines) under i <-> j, so half of the pairs are enough:
  with s and c their images, the pair (i, j) gets c + s and the pair (j, i) gets c - s.

Jiao et al. 2023 (DiffCSP, NeurIPS), eqs. 6-8; the CrysLDM paper, eqs. 13-15. The messages are averaged, as the
published DiffCSP does (CrysLDM's eq. 14 sums them: with N fixed per crystal the difference is a factor that the next
linear layer absorbs, and averages keep activations of one scale for all N).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.edge_messages import EdgeMessages
from models.type_posterior import PosteriorHead

# Edges worked on at a time on a CPU at inference: about a second-level cache.
CACHE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class CSPNetConfig:
    """Sizes of a CSPNet.

    node_dim: width of the input and output per atom (100 one-hot types for DiffCSP, the latent's width for CrysLDM).
    layer_norm: LayerNorm before every layer and at the end. equivariant_lattice: the lattice output is a 3x3
    combination of the input lattice's rows (so that it turns with it); else it is the 3x3 matrix itself.
    type_posterior: None for the published head, one linear layer that predicts the nodes' noise; the number of types
    for `PosteriorHead`, to which that layer adds. type_urn: the atoms of that head's urn; None for no urn.
    """

    node_dim: int = 100
    hidden_dim: int = 512
    num_layers: int = 6
    num_frequencies: int = 128
    time_dim: int = 256
    layer_norm: bool = True
    equivariant_lattice: bool = True
    type_posterior: int | None = None
    type_urn: float | None = None


class CSPNetOutput(NamedTuple):
    """lattice: (B, 3, 3). coord: (B, N, 3). node: (B, N, node_dim)."""

    lattice: Tensor
    coord: Tensor
    node: Tensor


class PairGeometry(NamedTuple):
    """What all layers share of the positions: Fourier features of the pairs i < j, and where each edge finds its pair.

    sines, cosines: (B, P, 3 F), P = N (N - 1) / 2. edge_source: (N * N,) row of the stack [c + s, c - s, diagonal]
    that edge (i, j) takes.
    """

    sines: Tensor
    cosines: Tensor
    edge_source: Tensor


@lru_cache(maxsize=256)
def _pair_indices(num_atoms: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Both indices of the pairs i < j, (P,) each, and `edge_source` of `PairGeometry`."""
    i, j = torch.triu_indices(num_atoms, num_atoms, offset=1, device=device)
    pairs = len(i)
    source = torch.full((num_atoms, num_atoms), 2 * pairs, device=device)
    source[i, j] = torch.arange(pairs, device=device)
    source[j, i] = torch.arange(pairs, 2 * pairs, device=device)
    return i, j, source.flatten()


def pair_geometry(frac_coords: Tensor, num_frequencies: int) -> PairGeometry:
    """Fourier features sin, cos (2 pi k (x_j - x_i)), k = 0 .. F - 1, of the pairs i < j.

    frac_coords: (B, N, 3). The features' order is (coordinate, k), as in the published weights.
    """
    i, j, source = _pair_indices(frac_coords.shape[1], frac_coords.device)
    frequencies = 2 * math.pi * torch.arange(num_frequencies, dtype=frac_coords.dtype, device=frac_coords.device)
    difference = frac_coords[:, j] - frac_coords[:, i]
    # Wrapping first keeps the angles small: sin(2 pi 127 x) loses digits in float32 when x is several periods.
    difference = difference - difference.round()
    angles = (difference[..., None] * frequencies).flatten(2)  # (B, P, 3 F)
    return PairGeometry(angles.sin(), angles.cos(), source)


def combine_rows(coefficients: Tensor, rows: Tensor) -> Tensor:
    """(B, 3, 3) matrix products, written elementwise.

    Under autocast a matmul would run in bfloat16, and cells need more digits.
    """
    return (coefficients[..., :, :, None] * rows[..., None, :, :]).sum(-2)


class CSPLayer(nn.Module):
    """One message-passing layer: messages from all pairs, their mean per atom, a residual update.

    The weight of the first edge layer is kept whole, (H, 2 H + 9 + 6 F) with columns for h_i, h_j, the Gram matrix,
    sines and cosines, so that its initialisation is the published one.
    """

    def __init__(self, hidden_dim: int, num_frequencies: int, layer_norm: bool) -> None:
        super().__init__()
        self.norm: nn.Module = nn.LayerNorm(hidden_dim) if layer_norm else nn.Identity()
        self.edge_in = nn.Linear(2 * hidden_dim + 9 + 6 * num_frequencies, hidden_dim)
        self.edge_out = nn.Linear(hidden_dim, hidden_dim)
        self.node_in = nn.Linear(2 * hidden_dim, hidden_dim)
        self.node_out = nn.Linear(hidden_dim, hidden_dim)
        self.splits = [hidden_dim, hidden_dim, 9, 3 * num_frequencies, 3 * num_frequencies]

    def forward(self, features: Tensor, gram: Tensor, geometry: PairGeometry) -> Tensor:
        """features: (B, N, H). gram: (B, 9). Returns the updated features (B, N, H)."""
        batch, n, hidden = features.shape
        inplace = not torch.is_grad_enabled() and not torch.compiler.is_compiling()  # which fuses operations itself
        h = self.norm(features)
        w_i, w_j, w_cell, w_sin, w_cos = self.edge_in.weight.split(self.splits, dim=1)
        w_self, w_message = self.node_in.weight.split([hidden, hidden], dim=1)
        cell = F.linear(gram, w_cell, self.edge_in.bias)  # (B, H)
        receiver = F.linear(h, w_i).add_(cell[:, None])  # (B, N, H)
        sender = F.linear(h, w_j)
        diagonal = w_cos.sum(1)  # sin 0 = 0, cos 0 = 1

        def messages_of(crystals: slice) -> Tensor:
            odd = F.linear(geometry.sines[crystals], w_sin)  # (b, P, H)
            even = F.linear(geometry.cosines[crystals], w_cos)
            if inplace:
                pairs = odd.shape[1]
                stack = odd.new_empty(len(odd), 2 * pairs + 1, hidden)
                torch.add(even, odd, out=stack[:, :pairs])
                torch.sub(even, odd, out=stack[:, pairs:-1])
                stack[:, -1] = diagonal
            else:
                stack = torch.cat([even + odd, even - odd, diagonal.expand(len(odd), 1, hidden)], dim=1)
            edges = stack.index_select(1, geometry.edge_source).view(-1, n, n, hidden)
            edges = edges.add_(receiver[crystals, :, None]).add_(sender[crystals, None, :])
            return F.silu(self.edge_out(F.silu(edges, inplace=inplace)), inplace=inplace).mean(2)  # (b, N, H)

        if self._by_blocks(h, geometry):
            messages = EdgeMessages.apply(
                receiver,
                sender,
                geometry.sines,
                geometry.cosines,
                w_sin,
                w_cos,
                self.edge_out.weight,
                self.edge_out.bias,
                geometry.edge_source,
            )
        elif inplace and features.device.type == "cpu":
            # A few crystals at a time, so that their edges stay in the processor's cache between operations.
            block = max(1, CACHE_BYTES // (n * n * hidden * features.element_size()))
            parts = [messages_of(slice(start, start + block)) for start in range(0, batch, block)]
            messages = parts[0] if len(parts) == 1 else torch.cat(parts)
        else:
            messages = messages_of(slice(None))
        update = F.silu(F.linear(messages, w_message, self.node_in.bias).add_(F.linear(h, w_self)), inplace=inplace)
        return features + F.silu(self.node_out(update), inplace=inplace)

    @staticmethod
    def _by_blocks(h: Tensor, geometry: PairGeometry) -> bool:
        """Whether `EdgeMessages` does what this call needs: training on a CPU in one precision, positions given."""
        wanted = torch.is_grad_enabled() and h.device.type == "cpu" and not geometry.sines.requires_grad
        return wanted and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


class CSPTrunk(nn.Module):
    """The message-passing layers and the final norm, without input and output maps."""

    def __init__(self, hidden_dim: int, num_layers: int, num_frequencies: int, layer_norm: bool = True) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.layers = nn.ModuleList(CSPLayer(hidden_dim, num_frequencies, layer_norm) for _ in range(num_layers))
        self.final_norm: nn.Module = nn.LayerNorm(hidden_dim) if layer_norm else nn.Identity()

    def forward(self, features: Tensor, frac_coords: Tensor, lattices: Tensor) -> Tensor:
        """features: (B, N, H); frac_coords: (B, N, 3); lattices: (B, 3, 3). Returns (B, N, H), invariant."""
        gram = combine_rows(lattices, lattices.transpose(1, 2)).flatten(1)  # (B, 9)
        geometry = pair_geometry(frac_coords, self.num_frequencies)
        for layer in self.layers:
            features = layer(features, gram, geometry)
        result: Tensor = self.final_norm(features)
        return result


class CSPNet(nn.Module):
    """Denoising network: noise of lattice and node features, and the coordinates' score, from a noisy crystal.

    Invariant under translation of frac_coords and whole-period shifts; permutation equivariant; with
    `equivariant_lattice`, the lattice output turns with the lattice (rows are vectors: L -> L Q).
    """

    def __init__(self, config: CSPNetConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        self.node_embedding = nn.Linear(config.node_dim, hidden)
        self.time_mixing = nn.Linear(hidden + config.time_dim, hidden)
        self.trunk = CSPTrunk(hidden, config.num_layers, config.num_frequencies, config.layer_norm)
        self.coord_out = nn.Linear(hidden, 3, bias=False)
        self.lattice_out = nn.Linear(hidden, 9, bias=False)
        self.node_out = nn.Linear(hidden, config.node_dim)
        self.head: PosteriorHead | None = None
        if config.type_posterior is not None:
            self.head = PosteriorHead(config.type_posterior, config.node_dim, hidden, config.type_urn)
            for parameter in self.node_out.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        nodes: Tensor,
        frac_coords: Tensor,
        lattices: Tensor,
        time_features: Tensor,
        alpha_bar: Tensor | None = None,
    ) -> CSPNetOutput:
        """nodes: (B, N, node_dim); frac_coords: (B, N, 3); lattices: (B, 3, 3); time_features: (B, time_dim).

        alpha_bar: (B,) share of signal in the nodes, for a `PosteriorHead` alone.
        """
        return self.with_type_logits(nodes, frac_coords, lattices, time_features, alpha_bar)[0]

    def with_type_logits(
        self,
        nodes: Tensor,
        frac_coords: Tensor,
        lattices: Tensor,
        time_features: Tensor,
        alpha_bar: Tensor | None = None,
    ) -> tuple[CSPNetOutput, Tensor | None]:
        """What `forward` gives, and the logits of the types, (B, N, K), that a `PosteriorHead` gives besides."""
        w_node, w_time = self.time_mixing.weight.split([self.config.hidden_dim, self.config.time_dim], dim=1)
        constant = self.time_mixing.bias + w_node @ self.node_embedding.bias
        time_part = F.linear(time_features, w_time, constant)[:, None]  # (B, 1, H)
        # Two linear maps in a row, merged: (H, node_dim) instead of (H, H) per atom.
        merged = w_node @ self.node_embedding.weight
        features = F.linear(nodes, merged) + time_part
        if self.head is None:
            return self._outputs(self.trunk(features, frac_coords, lattices), lattices), None
        if alpha_bar is None:
            raise ValueError("a network with a posterior head has to be told alpha_bar")
        closed = self.head.closed_form(nodes, alpha_bar)
        features = self.trunk(features + self.head.embedded(closed), frac_coords, lattices)
        lattice, coord, node = self._outputs(features, lattices)
        type_logits, noise = self.head(features, closed, nodes, alpha_bar)
        return CSPNetOutput(lattice, coord, node + noise), type_logits

    def _outputs(self, features: Tensor, lattices: Tensor) -> CSPNetOutput:
        """What the published heads make of the trunk's features (B, N, H)."""
        lattice = self.lattice_out(features.mean(1)).unflatten(1, (3, 3))
        if self.config.equivariant_lattice:
            lattice = combine_rows(lattice, lattices)
        return CSPNetOutput(lattice, self.coord_out(features), self.node_out(features))


class EvaluationCounter:
    """Counts forward passes through networks, one for each crystal of the batch, by hooks while active."""

    def __init__(self, *networks: nn.Module) -> None:
        self.networks = networks
        self.per_crystal = 0

    def __enter__(self) -> EvaluationCounter:
        self._handles = [network.register_forward_hook(self._count) for network in self.networks]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _count(self, module: nn.Module, inputs: object, output: object) -> None:
        self.per_crystal += 1
