"""Convolutions of equivariant networks (tensor products with spherical harmonics, summed over neighbours), for CPUs.

A message is sum_ij C_ijk x_i Y_j w, with one weight w per path (l of x, l of Y, l of the message) and channel. The sum
over an atom's edges and over i is one matrix product per path: channels times (edges, i), times (edges, i) by k. So
messages, thousands of numbers per edge, are never stored; the backward pass computes anew what it needs of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.arrays import IntArray

PADDED_EDGES = 256  # at most, of a chunk of atoms: what they need at once stays in the cache


@dataclass(frozen=True)
class Chunk:
    """n atoms that are summed up together, each with D places for its edges.

    start, stop: their rows in the order of `Sums`. edges, sources, bonds: (n D,) directed edge, atom it comes from and
    undirected bond of each place; mask: (n D, 1) is 0 where an atom has fewer edges and the first stands in for one.
    """

    start: int
    stop: int
    edges: Tensor
    sources: Tensor
    bonds: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Sums:
    """Atoms by their number of edges, in chunks; rows: (N,) where each atom stands in that order."""

    chunks: Sequence[Chunk]
    rows: Tensor


def make_sums(centres: IntArray, neighbours: IntArray, num_atoms: int, device: torch.device) -> Sums:
    """centres, neighbours: (2 U,) atoms of directed edges, the reverse of each U places on."""
    counts = np.bincount(centres, minlength=num_atoms)
    order = np.argsort(counts, kind="stable")
    by_centre = np.argsort(centres, kind="stable")
    starts = np.cumsum(counts) - counts
    half = len(centres) // 2

    def on_device(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device)

    chunks = []
    for start, stop in _ranges(counts[order]):
        atoms = order[start:stop]
        places = np.arange(counts[atoms].max())
        real = places < counts[atoms][:, None]  # (n, D)
        # The atom's own edge fills its row up: a crystal without finite numbers shall not touch another one.
        edges = by_centre[starts[atoms][:, None] + np.where(real, places, 0)].ravel()
        mask = real.astype(np.float32).reshape(-1, 1)
        own, sources, bonds, kept = (on_device(array) for array in (edges, neighbours[edges], edges % half, mask))
        chunks.append(Chunk(start, stop, own, sources, bonds, kept))
    return Sums(chunks, on_device(np.argsort(order, kind="stable")))


def _ranges(counts: IntArray) -> Iterator[tuple[int, int]]:
    """Rows of atoms, ascending by their number of edges, that fill a chunk; those without an edge are left out."""
    start = int(np.searchsorted(counts, 1))
    while start < len(counts):
        stop = start + 1
        while stop < len(counts) and counts[stop] * (stop + 1 - start) <= PADDED_EDGES:
            stop += 1
        yield start, stop
        start = stop


@dataclass(frozen=True)
class Group:
    """Paths from inputs of one l to messages of one l: g of them, with U channels, I and K components.

    inputs: columns of the features. weights: columns of the weights. outputs: first column of each path's messages.
    """

    degrees: tuple[int, int]
    inputs: slice
    weights: slice
    outputs: tuple[int, ...]
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """g, I, U, K."""
        return len(self.outputs), 2 * self.degrees[0] + 1, self.channels, 2 * self.degrees[1] + 1


class Convolution:
    """The sums of one layer. product: e3nn's TensorProduct of features and harmonics, of mode uvu with one v.

    groups: its paths. columns, factors: (W,) which of the product's weights stand where, and what they are times.
    ValueError where the product is of another kind.
    """

    def __init__(self, product: Any) -> None:
        if any(ins.connection_mode != "uvu" or not ins.has_weight for ins in product.instructions) or any(
            mul != 1 for mul, _ in product.irreps_in2
        ):
            raise ValueError("this network has other convolutions")
        self.input_blocks = [(part, mul, ir.dim) for part, (mul, ir) in _parts(product.irreps_in1)]
        outputs = [part.start for part, _ in _parts(product.irreps_out)]
        self.width = product.irreps_out.dim
        by_degrees: dict[tuple[int, int], list[Any]] = {}
        firsts = np.cumsum([0, *(ins.path_shape[0] for ins in product.instructions)])
        for first, ins in zip(firsts, product.instructions, strict=False):
            degrees = product.irreps_in1[ins.i_in1].ir.l, product.irreps_out[ins.i_out].ir.l
            by_degrees.setdefault(degrees, []).append((int(first), ins))
        self.groups: list[Group] = []
        self.degrees_of_harmonics: list[list[int]] = []
        columns: list[int] = []
        factors: list[float] = []
        for degrees, paths in sorted(by_degrees.items(), key=lambda item: item[0]):
            part, channels, _ = self.input_blocks[paths[0][1].i_in1]
            if any(ins.i_in1 != paths[0][1].i_in1 for _, ins in paths):
                raise ValueError("this network has several blocks of one degree")
            weights = slice(len(columns), len(columns) + channels * len(paths))
            for first, ins in paths:
                columns += range(first, first + channels)
                factors += [float(ins.path_weight)] * channels
            self.groups.append(Group(degrees, part, weights, tuple(outputs[ins.i_out] for _, ins in paths), channels))
            self.degrees_of_harmonics.append([product.irreps_in2[ins.i_in2].ir.l for _, ins in paths])
        self.columns, self.factors = torch.tensor(columns), torch.tensor(factors)

    def __call__(self, features: Tensor, weights: Tensor, sums: Sums, couplings: Sequence[Sequence[Tensor]]) -> Tensor:
        """(N, messages) in e3nn's order. features: (N, inputs) likewise; weights: (U, W) of undirected bonds.

        couplings: for each group and chunk, (g, n D, I K).
        """
        parts = [
            features[:, part].view(len(features), channels, dim).transpose(1, 2).flatten(1)
            for part, channels, dim in self.input_blocks
        ]
        flat = [coupling for of_chunks in couplings for coupling in of_chunks]
        messages: Tensor = _Convolve.apply(torch.cat(parts, dim=1), weights, self, sums, *flat)  # type: ignore[no-untyped-call]
        return messages.index_select(0, sums.rows)


def _parts(irreps: Any) -> list[tuple[slice, Any]]:
    return list(zip(irreps.slices(), irreps, strict=True))


class Couplings:
    """For paths from degree I to degree K by harmonics Y: sum_j C_ijk Y_j of edges, the same in all layers."""

    def __init__(self, convolutions: Sequence[Convolution], max_degree: int) -> None:
        from e3nn.o3 import wigner_3j

        self.tables: dict[tuple[int, int], tuple[list[int], Tensor]] = {}
        for convolution in convolutions:
            for group, middles in zip(convolution.groups, convolution.degrees_of_harmonics, strict=True):
                first, last = group.degrees
                table = torch.zeros(len(middles), (max_degree + 1) ** 2, (2 * first + 1) * (2 * last + 1))
                for number, middle in enumerate(middles):
                    own = wigner_3j(first, middle, last).permute(1, 0, 2).flatten(1).float()
                    table[number, middle**2 : (middle + 1) ** 2] = own
                known = self.tables.setdefault(group.degrees, (middles, table))
                if known[0] != middles:
                    raise ValueError("the layers of this network differ in their paths")

    def __call__(self, harmonics: Tensor, sums: Sums) -> dict[tuple[int, int], list[Tensor]]:
        """By degrees, for each chunk (g, n D, I K). harmonics: (2 U, J) of directed edges."""
        padded = [harmonics.index_select(0, chunk.edges) * chunk.mask for chunk in sums.chunks]
        return {
            degrees: [torch.matmul(own, table.to(own.device)) for own in padded]
            for degrees, (_, table) in self.tables.items()
        }


class _Convolve(torch.autograd.Function):
    """Messages summed over edges: (N, messages) in the order of `sums`."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weights: Tensor, own: Convolution, sums: Sums, *couplings: Tensor
    ) -> Tensor:
        ctx.own, ctx.sums = own, sums
        ctx.save_for_backward(features, weights, *couplings)
        out = features.new_zeros(len(features), own.width)
        for number, chunk in enumerate(sums.chunks):
            padded = _Padded(features, weights, chunk)
            for place, group in enumerate(own.groups):
                paths, _, channels, components = group.shape
                coupling = _by_atom(couplings[place * len(sums.chunks) + number], chunk, group)
                summed = torch.bmm(coupling.transpose(1, 2), padded.weighted(group))  # (g n, K, U)
                summed = summed.view(paths, -1, components, channels)
                for first, path in zip(group.outputs, summed, strict=True):
                    slot = out[chunk.start : chunk.stop, first : first + channels * components]
                    slot.view(-1, channels, components).copy_(path.transpose(1, 2))
        return out

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        own, sums = ctx.own, ctx.sums
        features, weights, *couplings = ctx.saved_tensors
        of_features, of_weights = torch.zeros_like(features), torch.zeros_like(weights)
        of_couplings: list[Tensor | None] = [None] * len(couplings)
        for number, chunk in enumerate(sums.chunks):
            padded = _Padded(features, weights, chunk)
            of_padded = _Padded.zeros_like(padded)
            for place, group in enumerate(own.groups):
                paths, components_in, channels, components = group.shape
                index = place * len(sums.chunks) + number
                parts = [
                    slopes[chunk.start : chunk.stop, first : first + channels * components]
                    .view(-1, channels, components)
                    .transpose(1, 2)
                    for first in group.outputs
                ]
                summed = torch.cat(parts)  # (g n, K, U)
                coupling = _by_atom(couplings[index], chunk, group)
                of_couplings[index] = torch.bmm(padded.weighted(group), summed.transpose(1, 2)).view_as(
                    couplings[index]
                )
                products = torch.bmm(coupling, summed).view(paths, -1, components_in, channels)
                inputs, factors = padded.inputs(group), padded.factors(group)  # (n D, I, U), (g, n D, U)
                into_inputs, into_factors = of_padded.inputs(group), of_padded.factors(group)
                for component in range(components_in):
                    into_factors.addcmul_(products[:, :, component], inputs[:, component])
                for path in range(paths):
                    into_inputs.addcmul_(products[path], factors[path][:, None])
            of_features.index_add_(0, chunk.sources, of_padded.features)
            of_weights.index_add_(0, chunk.bonds, of_padded.weights)
        return (of_features, of_weights, None, None, *of_couplings)


class _Padded:
    """Features (n D, inputs) and weights (n D, W) at the places of a chunk."""

    def __init__(self, features: Tensor, weights: Tensor, chunk: Chunk | None = None) -> None:
        self.features = features if chunk is None else features.index_select(0, chunk.sources)
        self.weights = weights if chunk is None else weights.index_select(0, chunk.bonds)
        self.atoms = 0 if chunk is None else chunk.stop - chunk.start

    @classmethod
    def zeros_like(cls, other: _Padded) -> _Padded:
        """What is added up in the backward pass."""
        return cls(torch.zeros_like(other.features), torch.zeros_like(other.weights))

    def inputs(self, group: Group) -> Tensor:
        """(n D, I, U)."""
        _, components_in, channels, _ = group.shape
        return self.features[:, group.inputs].view(-1, components_in, channels)

    def factors(self, group: Group) -> Tensor:
        """(g, n D, U)."""
        paths, _, channels, _ = group.shape
        return self.weights[:, group.weights].view(-1, paths, channels).transpose(0, 1)

    def weighted(self, group: Group) -> Tensor:
        """(g n, D I, U), inputs times weights."""
        paths, components_in, channels, _ = group.shape
        out = self.features.new_empty(paths, len(self.features), components_in, channels)
        torch.mul(self.factors(group)[:, :, None], self.inputs(group), out=out)
        return out.view(paths * self.atoms, -1, channels)


def _by_atom(coupling: Tensor, chunk: Chunk, group: Group) -> Tensor:
    """(g n, D I, K) from (g, n D, I K)."""
    paths, _, _, components = group.shape
    return coupling.view(paths * (chunk.stop - chunk.start), -1, components)
