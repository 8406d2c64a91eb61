"""CDVAE's encoder: DimeNet++ on the periodic neighbour graph, made of torch-geometric's blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.models.dimenet import (
    BesselBasisLayer,
    EmbeddingBlock,
    InteractionPPBlock,
    OutputPPBlock,
    SphericalBasisLayer,
)

from models.baselines.cdvae.cells import to_cartesian
from models.baselines.cdvae.graph import Edges, Layout, neighbour_edges, neighbour_images


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a DimeNet++ (Gasteiger et al. 2020), with the published names and values.

    num_elements: highest atomic number plus one that the embedding has. readout: of the atoms' outputs.
    """

    hidden_channels: int = 128
    num_blocks: int = 4
    int_emb_size: int = 64
    basis_emb_size: int = 8
    out_emb_channels: int = 256
    num_spherical: int = 7
    num_radial: int = 6
    cutoff: float = 7.0
    max_num_neighbors: int = 20
    envelope_exponent: int = 5
    num_before_skip: int = 1
    num_after_skip: int = 2
    num_output_layers: int = 3
    num_elements: int = 95
    readout: str = "mean"


class DimeNetPlusPlus(nn.Module):
    """Crystals -> (B, num_targets). Parameter names are the published ones."""

    def __init__(self, config: EncoderConfig, num_targets: int) -> None:
        super().__init__()
        if config.readout not in ("mean", "sum"):
            raise ValueError(f"encoder readout {config.readout!r} is not known; choose mean or sum")
        self.config = config
        hidden, radial = config.hidden_channels, config.num_radial
        self.rbf = BesselBasisLayer(radial, config.cutoff, config.envelope_exponent)
        self.emb = EmbeddingBlock(radial, hidden, F.silu)
        if config.num_elements != self.emb.emb.num_embeddings:
            self.emb.emb = nn.Embedding(config.num_elements, hidden)
            self.emb.reset_parameters()
        self.output_blocks = nn.ModuleList(
            _OutputBlock(radial, hidden, config.out_emb_channels, num_targets, config.num_output_layers, F.silu)
            for _ in range(config.num_blocks + 1)
        )
        self.interaction_blocks = nn.ModuleList(
            InteractionPPBlock(
                hidden,
                config.int_emb_size,
                config.basis_emb_size,
                config.num_spherical,
                radial,
                config.num_before_skip,
                config.num_after_skip,
                F.silu,
            )
            for _ in range(config.num_blocks)
        )

    def forward(self, atomic_numbers: Tensor, frac_coords: Tensor, lattices: Tensor, num_atoms: Tensor) -> Tensor:
        """(B, num_targets) of crystals.

        atomic_numbers: (A,). frac_coords: (A, 3). lattices: (B, 3, 3). num_atoms: (B,). ValueError names an element
        that the embedding does not have.
        """
        highest = int(atomic_numbers.max())
        if highest >= self.config.num_elements:
            raise ValueError(f"atomic number {highest}: the encoder knows 1 to {self.config.num_elements - 1}")
        layout = Layout.of(num_atoms)
        cart_coords = to_cartesian(frac_coords % 1.0, lattices, layout.crystal)
        images = neighbour_images(cart_coords, lattices, layout, self.config.cutoff, self.config.max_num_neighbors)
        edges = neighbour_edges(images, layout)
        outputs = self.atom_outputs(atomic_numbers, edges)  # (A, num_targets)
        total = outputs.new_zeros(len(lattices), outputs.shape[1]).index_add_(0, layout.crystal, outputs)
        return total / num_atoms[:, None] if self.config.readout == "mean" else total

    def atom_outputs(self, atomic_numbers: Tensor, edges: Edges) -> Tensor:
        """(A, num_targets) of atoms, from any graph whose edges are sorted by target."""
        config, size = self.config, len(atomic_numbers)
        outer, inner = triplets(edges, size)
        distances = edges.vectors.norm(dim=-1)
        # From the edge j -> i to the edge k -> j that comes before it.
        here, before = edges.vectors[outer], edges.vectors[inner]
        angles = torch.atan2(torch.linalg.cross(here, before).norm(dim=-1), (here * before).sum(-1))
        basis = _spherical_basis(config.num_spherical, config.num_radial, config.cutoff, config.envelope_exponent)
        rbf, sbf = self.rbf(distances), basis(distances, angles, inner)
        messages = self.emb(atomic_numbers, rbf, edges.targets, edges.sources)
        outputs: Tensor = self.output_blocks[0](messages, rbf, edges.targets, num_nodes=size)
        for interaction, output in zip(self.interaction_blocks, self.output_blocks[1:], strict=True):
            messages = interaction(messages, rbf, sbf, inner, outer)
            outputs = outputs + output(messages, rbf, edges.targets, num_nodes=size)
        return outputs


class _OutputBlock(OutputPPBlock):
    """The block with the bias in its upward projection that torch-geometric had when CDVAE was published."""

    def __init__(self, num_radial: int, hidden: int, out_emb: int, out: int, num_layers: int, act: object) -> None:
        super().__init__(num_radial, hidden, out_emb, out, num_layers, act)
        self.lin_up = nn.Linear(hidden, out_emb)
        self.reset_parameters()


def triplets(edges: Edges, num_atoms: int) -> tuple[Tensor, Tensor]:
    """Edges j -> i and edges k -> j with k other than i, as two lists (T,) of edge indices.

    An image of i counts as i, as published. Edges must be sorted by target.
    """
    counts = torch.bincount(edges.targets, minlength=num_atoms)
    starts = counts.cumsum(0) - counts
    per_edge = counts[edges.sources]
    outer = torch.arange(len(edges.sources), device=per_edge.device).repeat_interleave(per_edge)
    first = per_edge.cumsum(0) - per_edge
    rank = torch.arange(len(outer), device=per_edge.device) - first[outer]
    inner = starts[edges.sources][outer] + rank
    different = edges.sources[inner] != edges.targets[outer]
    return outer[different], inner[different]


@lru_cache(maxsize=4)
def _spherical_basis(num_spherical: int, num_radial: int, cutoff: float, exponent: int) -> SphericalBasisLayer:
    """Made at first use: SymPy derives its formulae, which takes seconds, and sampling does not need them."""
    return SphericalBasisLayer(num_spherical, num_radial, cutoff, exponent)
