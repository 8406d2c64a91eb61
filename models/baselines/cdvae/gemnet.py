"""CDVAE's decoder: GemNet-T, which sees a noisy crystal and its latent and says where atoms belong and what they are.

The mathematics is the published one; what makes it fast is the layout:

- an edge and its reverse have one distance, so edges are a stack (2, H, ...) of forward edges and their reverses, and
  everything radial is computed once for both; swapping c -> a with a -> c is a flip of the stack;
- the triplets b -> a <- c are the pairs of edges that enter one atom, so with the entering edges padded to (A, K) their
  angles are one batched product (A, K, K), and the sum over b another: there is no list of triplets;
- layers on [h_source, h_target, m] are linear in the three, so the atoms' part is applied per atom;
- the energy that GemNet also predicts is not used by CDVAE and not computed.

Gasteiger et al. 2021 (GemNet, NeurIPS), the direct-force, triplets-only variant; Xie et al. 2022 (CDVAE, ICLR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.baselines.cdvae.angles import CrystalGraph, recursion, symmetric_graph
from models.baselines.cdvae.cells import to_cartesian
from models.baselines.cdvae.graph import Layout, forward_edges, neighbour_images

_HALF = 1 / math.sqrt(2.0)
# Gain of a SiLU, so that activations keep their variance.
_SILU_GAIN = 1 / 0.6


@dataclass(frozen=True)
class ActivationScales:
    """Constants that keep activations at unit variance, one per interaction block, one more for the outputs.

    The defaults are those published with GemNet-dT for 3 blocks, 128 Gaussians and wider layers, which CDVAE uses as
    they are; a network with other blocks repeats the last.
    """

    rbf: tuple[float, ...] = (18.873615264892578, 16.10817527770996, 15.01930046081543)
    triplets: tuple[float, ...] = (7.996850490570068, 7.614634037017822, 7.025179862976074)
    atoms: tuple[float, ...] = (1.220463752746582, 0.9690994620323181, 0.8903237581253052)
    outputs: tuple[float, ...] = (16.161039352416992, 13.54678726196289, 12.754337310791016, 13.484951972961426)


@dataclass(frozen=True)
class GemNetConfig:
    """Sizes of a GemNet-T with CDVAE's additions; the names of the published arguments.

    hidden_dim: of atoms and edges. emb_size_*: of triplets, radial and circular basis, bilinear layer.
    radius: cutoff (A). num_types: of the atom-type logits and of the atoms' embedding.
    """

    hidden_dim: int = 128
    latent_dim: int = 256
    num_types: int = 100
    num_blocks: int = 3
    num_spherical: int = 7
    num_radial: int = 128
    emb_size_trip: int = 64
    emb_size_rbf: int = 16
    emb_size_cbf: int = 16
    emb_size_bil_trip: int = 64
    num_before_skip: int = 1
    num_after_skip: int = 2
    num_concat: int = 1
    num_atom: int = 3
    radius: float = 7.0
    max_neighbors: int = 20
    envelope_exponent: int = 5
    scales: ActivationScales = ActivationScales()


class DecoderOutput(NamedTuple):
    """cart_coord_diff: (A, 3), Angstrom times the score's sign. type_logits: (A, num_types)."""

    cart_coord_diff: Tensor
    type_logits: Tensor


class RadialFeatures(NamedTuple):
    """Radial basis, projected for its uses; rows are forward edges, and the reverses have the same.

    edges: (H, hidden) in the edge embedding. triplets, atoms, outputs: (H, emb_size_rbf). circular: (2 H, emb_size_cbf,
    num_spherical), reverses included.
    """

    edges: Tensor
    triplets: Tensor
    atoms: Tensor
    outputs: Tensor
    circular: Tensor


class GemNetT(nn.Module):
    """(latents, noisy crystals) -> directions to the clean places and logits of the atom types."""

    offsets: Tensor
    degrees: Tensor

    def __init__(self, config: GemNetConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        rbf, scales = config.emb_size_rbf, config.scales
        self.register_buffer("offsets", torch.linspace(0, 1, config.num_radial))
        degrees = torch.tensor(recursion(config.num_spherical)[1], dtype=torch.float64)[:, None, None]
        self.register_buffer("degrees", degrees, persistent=False)
        self.rbf_triplets = _linear(config.num_radial, rbf)
        self.rbf_atoms = _linear(config.num_radial, rbf)
        self.rbf_outputs = _linear(config.num_radial, rbf)
        self.circular = nn.Parameter(
            torch.stack([_he_orthogonal(config.emb_size_cbf, config.num_radial).T for _ in range(config.num_spherical)])
        )
        self.atom_embedding = nn.Embedding(config.num_types, hidden)
        nn.init.uniform_(self.atom_embedding.weight, -math.sqrt(3), math.sqrt(3))
        self.latent_mixing = nn.Linear(hidden + config.latent_dim, hidden)
        self.edge_embedding = EdgeEmbedding(hidden, config.num_radial)
        self.interactions = nn.ModuleList(
            Interaction(config, *(_at(values, k) for values in (scales.rbf, scales.triplets, scales.atoms)))
            for k in range(config.num_blocks)
        )
        self.outputs = nn.ModuleList(ForceOutput(config, _at(scales.outputs, k)) for k in range(config.num_blocks + 1))
        self.type_logits = nn.Linear(hidden, config.num_types)

    def forward(
        self, z: Tensor, frac_coords: Tensor, atomic_numbers: Tensor, lattices: Tensor, layout: Layout
    ) -> DecoderOutput:
        """The published decoder.

        z: (B, latent_dim). frac_coords: (A, 3). atomic_numbers: (A,) in 1..num_types. lattices: (B, 3, 3).
        """
        graph = self.graph(frac_coords, lattices, layout)
        radial = self.radial(graph.distances)
        h = torch.cat([self.atom_embedding(atomic_numbers - 1), z.index_select(0, layout.crystal)], dim=1)
        h = self.latent_mixing(h)
        m = self.edge_embedding(h, radial.edges, graph)
        force = self.outputs[0](m, radial.outputs)
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            h, m = interaction(h, m, radial, graph)
            force = force + output(m, radial.outputs)
        moved = torch.zeros_like(frac_coords).index_add_(0, graph.targets, force * graph.directions)
        return DecoderOutput(moved, self.type_logits(h))

    def graph(self, frac_coords: Tensor, lattices: Tensor, layout: Layout) -> CrystalGraph:
        """The symmetric periodic graph of the noisy crystals, and the angles in it."""
        cart_coords = to_cartesian(frac_coords % 1.0, lattices, layout.crystal)
        images = neighbour_images(cart_coords, lattices, layout, self.config.radius, self.config.max_neighbors)
        return symmetric_graph(forward_edges(images, layout), len(cart_coords), self.config.num_spherical)

    def radial(self, distances: Tensor) -> RadialFeatures:
        """Gaussians of the distances (H,) under a smooth envelope, and their projections by one matrix product."""
        config = self.config
        x = distances / config.radius
        width = -0.5 * (config.num_radial - 1) ** 2
        # Far Gaussians would be denormal numbers, with which a processor takes nine times as long; 1e-35 is as good.
        basis = torch.exp((width * (x[:, None] - self.offsets) ** 2).clamp_min(-80.0))
        basis = basis * _envelope(x, config.envelope_exponent)[:, None]
        cbf = config.emb_size_cbf * config.num_spherical
        weights = torch.cat(
            [
                self.edge_embedding.edge.weight,
                self.rbf_triplets.weight,
                self.rbf_atoms.weight,
                self.rbf_outputs.weight,
                (self.circular * self.degrees.to(self.circular)).permute(2, 0, 1).reshape(cbf, config.num_radial),
            ]
        )
        rbf = config.emb_size_rbf
        parts = (basis @ weights.T).split([config.hidden_dim, rbf, rbf, rbf, cbf], dim=1)
        circular = parts[4].unflatten(1, (config.emb_size_cbf, config.num_spherical))
        return RadialFeatures(parts[0], parts[1], parts[2], parts[3], torch.cat([circular, circular]))


class Interaction(nn.Module):
    """One block: messages from triplets to edges, from edges to atoms and back (GemNet, figure 2)."""

    atom_scale: Tensor

    def __init__(self, config: GemNetConfig, rbf_scale: float, triplet_scale: float, atom_scale: float) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.skip = _linear(hidden, hidden)
        self.triplets = TripletMessages(config, rbf_scale, triplet_scale)
        self.before_skip = nn.ModuleList(Residual(hidden) for _ in range(config.num_before_skip))
        self.after_skip = nn.ModuleList(Residual(hidden) for _ in range(config.num_after_skip))
        self.atom_rbf = _linear(config.emb_size_rbf, hidden)
        self.register_buffer("atom_scale", torch.tensor(atom_scale))
        self.atom_in = _linear(hidden, hidden)
        self.atom_layers = nn.ModuleList(Residual(hidden) for _ in range(config.num_atom))
        self.edge_embedding = EdgeEmbedding(hidden, hidden)
        self.edge_layers = nn.ModuleList(Residual(hidden) for _ in range(config.num_concat))

    def forward(self, h: Tensor, m: Tensor, radial: RadialFeatures, graph: CrystalGraph) -> tuple[Tensor, Tensor]:
        """Atoms (A, hidden) and edges (2 H, hidden) after the block."""
        x = (_scaled_silu(self.skip(m)) + self.triplets(m, radial, graph)).mul_(_HALF)
        m = (m + _through(self.before_skip, x)).mul_(_HALF)
        m = _through(self.after_skip, m)

        entering = _times_radial(m, self.atom_rbf(radial.atoms))
        gathered = torch.zeros_like(h).index_add_(0, graph.targets, entering) * self.atom_scale
        update = _through(self.atom_layers, _scaled_silu(self.atom_in(gathered)))
        h = (h + update).mul_(_HALF)

        new = _through(
            self.edge_layers, self.edge_embedding(h, self.edge_embedding.edge(m).unflatten(0, (2, -1)), graph)
        )
        return h, (m + new).mul_(_HALF)


class TripletMessages(nn.Module):
    """To each edge c -> a from all other edges b -> a, by their distances and the angle between them.

    GemNet's efficient bilinear layer: sum_b over the angular functions first, then the radial ones, then the weights.
    """

    def __init__(self, config: GemNetConfig, rbf_scale: float, triplet_scale: float) -> None:
        super().__init__()
        hidden, trip, bilinear = config.hidden_dim, config.emb_size_trip, config.emb_size_bil_trip
        self.dense = _linear(hidden, hidden)
        self.rbf = _linear(config.emb_size_rbf, hidden)
        self.register_buffer("rbf_scale", torch.tensor(rbf_scale))
        self.down = _linear(hidden, trip)
        self.bilinear = _linear(config.emb_size_cbf * trip, bilinear)
        self.register_buffer("triplet_scale", torch.tensor(triplet_scale))
        self.up = _linear(bilinear, hidden)
        self.up_reverse = _linear(bilinear, hidden)

    def forward(self, m: Tensor, radial: RadialFeatures, graph: CrystalGraph) -> Tensor:
        """(2 H, hidden) messages."""
        x = _times_radial(_scaled_silu(self.dense(m)), self.rbf(radial.triplets) * self.rbf_scale)
        x = _scaled_silu(self.down(x))  # (2H, trip)
        atoms, rows, slots = graph.angular.shape
        trip = x.shape[1]
        padded = x.new_zeros(atoms * slots, trip).index_copy(0, graph.slot, x)
        summed = torch.bmm(graph.angular, padded.view(atoms, slots, trip))  # (A, 7K, trip)
        summed = summed.view(-1, trip).index_select(0, graph.rows).view(-1, rows // slots, trip)  # (2H, 7, trip)
        x = torch.bmm(radial.circular, summed).flatten(1)  # (2H, cbf trip)
        x = self.bilinear(x) * self.triplet_scale
        reverse = _scaled_silu(self.up_reverse(x)).unflatten(0, (2, -1)).flip(0).flatten(0, 1)
        return (_scaled_silu(self.up(x)) + reverse).mul_(_HALF)


class ForceOutput(nn.Module):
    """(2 H, 1) signed lengths of the edges' pushes on their targets."""

    def __init__(self, config: GemNetConfig, scale: float) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.dense = _linear(hidden, hidden)
        self.layers = nn.ModuleList(Residual(hidden) for _ in range(config.num_atom))
        self.rbf = _linear(config.emb_size_rbf, hidden)
        self.register_buffer("scale", torch.tensor(scale))
        self.out = _linear(hidden, 1)

    def forward(self, m: Tensor, rbf: Tensor) -> Tensor:
        """m: (2 H, hidden). rbf: (H, emb_size_rbf)."""
        x = _through(self.layers, _scaled_silu(self.dense(m)))
        return self.out(_times_radial(x, self.rbf(rbf) * self.scale))


class EdgeEmbedding(nn.Module):
    """A dense layer on [h_source, h_target, edge features], applied part by part."""

    def __init__(self, hidden: int, edge_features: int) -> None:
        super().__init__()
        weight = _he_orthogonal(hidden, 2 * hidden + edge_features)
        parts = weight.split([hidden, hidden, edge_features], dim=1)
        self.source, self.target, self.edge = (_linear(part.shape[1], hidden, part) for part in parts)

    def forward(self, h: Tensor, edge_part: Tensor, graph: CrystalGraph) -> Tensor:
        """edge_part: (2, H, hidden), or (H, hidden) where the reverses have the same; already through `edge`."""
        x = self.source(h).index_select(0, graph.sources) + self.target(h).index_select(0, graph.targets)
        return _scaled_silu((x.unflatten(0, (2, -1)) + edge_part).flatten(0, 1))


class Residual(nn.Module):
    """Two dense layers beside a skip connection, at constant variance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _linear(width, width), _linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width)."""
        # Constants ride on the weights and on the sum: a pass over the edges each less.
        inner = F.linear(F.silu(self.first(x), inplace=True), self.second.weight * _SILU_GAIN)
        return torch.add(x, F.silu(inner, inplace=True), alpha=_SILU_GAIN).mul_(_HALF)


def _envelope(x: Tensor, exponent: int) -> Tensor:
    """Polynomial that falls from 1 at 0 to 0 at 1 with two vanishing derivatives (Gasteiger et al. 2020, eq. 8)."""
    p = exponent
    value = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return torch.where(x < 1, value, 0.0)


def _scaled_silu(x: Tensor) -> Tensor:
    """In place: x comes fresh from a matrix product."""
    return F.silu(x, inplace=True).mul_(_SILU_GAIN)


def _times_radial(x: Tensor, radial: Tensor) -> Tensor:
    """(2 H, F) times (H, F), the same for forward edges and their reverses."""
    return (x.view(2, *radial.shape) * radial).flatten(0, 1)


def _through(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _at(values: tuple[float, ...], index: int) -> float:
    return values[min(index, len(values) - 1)]


def _linear(width_in: int, width_out: int, weight: Tensor | None = None) -> nn.Linear:
    """A linear layer without bias, orthogonal at first."""
    layer = nn.Linear(width_in, width_out, bias=False)
    with torch.no_grad():
        layer.weight.copy_(_he_orthogonal(width_out, width_in) if weight is None else weight)
    return layer


def _he_orthogonal(width_out: int, width_in: int) -> Tensor:
    """(out, in) semi-orthogonal matrix, its rows standardised to variance 1 / width_in (GemNet's initialisation)."""
    weight = nn.init.orthogonal_(torch.empty(width_out, width_in))
    variance, mean = torch.var_mean(weight, dim=1, keepdim=True) if width_in > 1 else (torch.ones(1), torch.zeros(1))
    return (weight - mean) / (variance + 1e-6).sqrt() / math.sqrt(width_in)
