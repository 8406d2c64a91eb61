"""The periodic neighbour graph that CDVAE's encoder and decoder see, for a ragged batch of crystals.

The published rules, which decide what a trained network means by "neighbour", are kept to the letter:

- images of the 27 cells around an atom are looked at, no more, however small the cell;
- of those within the cutoff an atom keeps its `max_neighbors` nearest; of equal distances, which an atom's own images
  always come in, those that PyTorch's sort puts first;
- the decoder then drops every edge from a later to an earlier atom and adds the reverse of every edge that is left
  (so where an atom has more than `max_neighbors` neighbours, the order of the atoms matters a little).

Distances are dense, (B, N_max, 27 N_max); lists begin where the cutoff has left a tenth of them, and nothing is sorted
but ties.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# In this order ties between images are broken, and the first 13 are the inverses of the last 13.
_CELLS = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
_NUM_CELLS = len(_CELLS)
_HOME = _NUM_CELLS // 2
# Closer than this (A^2) is the atom itself.
_SAME_PLACE_A2 = 1e-4


class Edges(NamedTuple):
    """sources, targets: (E,) atoms. vectors: (E, 3) from target to source, Angstrom, images included."""

    sources: Tensor
    targets: Tensor
    vectors: Tensor


@dataclass(frozen=True)
class Layout:
    """Where the atoms of a ragged batch lie in a padded one; made once for a whole trajectory.

    num_atoms: (B,). crystal: (A,) crystal of each atom. atom: (B * width,) atom of each row, 0 where there is none.
    missing: (B, width) rows without an atom, None where there is no such row.
    forward: (width, 27 * width) pairs (target, image of source) that come first under reversal. cells: (27, 3) images.
    """

    num_atoms: Tensor
    width: int
    crystal: Tensor
    atom: Tensor
    missing: Tensor | None
    forward: Tensor
    cells: Tensor

    @classmethod
    def of(cls, num_atoms: Tensor) -> Layout:
        """The layout of crystals with `num_atoms` (B,) atoms each, at least one in all."""
        device = num_atoms.device
        batch, width = len(num_atoms), int(num_atoms.max())
        crystal = torch.arange(batch, device=device).repeat_interleave(num_atoms)
        starts = num_atoms.cumsum(0) - num_atoms
        rank = torch.arange(len(crystal), device=device) - starts[crystal]
        atom = torch.zeros(batch * width, dtype=torch.long, device=device)
        atom[crystal * width + rank] = torch.arange(len(crystal), device=device)
        missing = torch.arange(width, device=device) >= num_atoms[:, None]
        order = torch.arange(width, device=device)
        cell = torch.arange(_NUM_CELLS, device=device)
        earlier_atom = order < order[:, None]  # (target, source)
        same_atom = order == order[:, None]
        forward = earlier_atom[:, :, None] | (same_atom[:, :, None] & (cell < _HOME))
        missing_or_none = missing if bool(missing.any()) else None
        return cls(num_atoms, width, crystal, atom, missing_or_none, forward.flatten(1), _CELLS.to(device))


class Images(NamedTuple):
    """Atoms and the images of their neighbours, W = layout.width.

    centres: (B, W, 3). places: (B, 27 W, 3). chosen: (E,) ascending, which of the B * W * 27 W pairs are neighbours.
    """

    centres: Tensor
    places: Tensor
    chosen: Tensor


def neighbour_images(
    cart_coords: Tensor, lattices: Tensor, layout: Layout, cutoff: float, max_neighbors: int
) -> Images:
    """Which images of which atoms are neighbours of each atom.

    cart_coords: (A, 3), Angstrom, of atoms inside their cells. lattices: (B, 3, 3).
    """
    batch, width = len(lattices), layout.width
    centres = cart_coords.index_select(0, layout.atom).view(batch, width, 3)
    shifts = _cell_shifts(lattices, layout.cells)  # (B, 27, 3)
    places = (centres[:, :, None] + shifts[:, None]).view(batch, width * _NUM_CELLS, 3)
    # Coordinate by coordinate and in this order, as published: images at equal distances are told apart by rounding.
    still, moved = centres.detach(), places.detach().transpose(1, 2).contiguous()  # (B, W, 3), (B, 3, 27 W)
    squared = (still[:, :, None, 0] - moved[:, None, 0]).square_()  # (B, W, 27 W)
    for k in (1, 2):
        squared += (still[:, :, None, k] - moved[:, None, k]).square_()
    within = (squared <= cutoff * cutoff) & (squared > _SAME_PLACE_A2)
    if layout.missing is not None:
        within &= ~layout.missing[:, :, None]
        within &= ~layout.missing.repeat_interleave(_NUM_CELLS, dim=1)[:, None]
    counts = within.sum(-1).flatten()
    chosen = _true_places(within.view(-1))
    if int(counts.max()) > max_neighbors:
        chosen = chosen[_nearest(squared.view(-1).index_select(0, chosen), counts, max_neighbors, cutoff)]
    return Images(centres, places, chosen)


def neighbour_edges(images: Images, layout: Layout) -> Edges:
    """The edges of the images that are kept, sorted by target: the encoder's graph."""
    return _edges(images, images.chosen, layout)


def forward_edges(images: Images, layout: Layout) -> Edges:
    """The half of the decoder's edges that come from an earlier atom; the other half are their reverses."""
    forward = layout.forward.view(-1)
    return _edges(images, images.chosen[forward.index_select(0, images.chosen % len(forward))], layout)


def _edges(images: Images, chosen: Tensor, layout: Layout) -> Edges:
    width = layout.width
    row = chosen.div(_NUM_CELLS * width, rounding_mode="floor")  # of the target among B * W
    column = chosen - row * (_NUM_CELLS * width)
    crystal = row.div(width, rounding_mode="floor")
    source = crystal * width + column.div(_NUM_CELLS, rounding_mode="floor")
    vectors = images.places.view(-1, 3).index_select(0, crystal * (_NUM_CELLS * width) + column)
    vectors = vectors - images.centres.view(-1, 3).index_select(0, row)
    if layout.missing is None:
        return Edges(source, row, vectors)
    return Edges(layout.atom.index_select(0, source), layout.atom.index_select(0, row), vectors)


def _cell_shifts(lattices: Tensor, cells: Tensor) -> Tensor:
    """(B, 27, 3) translations to the cells (27, 3)."""
    cells = cells.to(lattices.dtype)
    shifts = cells[:, 0, None] * lattices[:, None, 0]
    for k in (1, 2):
        shifts = shifts + cells[:, k, None] * lattices[:, None, k]
    return shifts


def _nearest(squared: Tensor, counts: Tensor, keep: int, cutoff: float) -> Tensor:
    """(P,) mask of the `keep` smallest of each atom's squared distances (P,), which come `counts` (A,) at a time.

    Which of several equal distances are the first is what PyTorch's sort happens to make of the published table: an
    atom's neighbours in their order, padded to the largest number of neighbours in the batch.
    """
    most = int(counts.max())
    table = torch.full((len(counts), most), cutoff * cutoff + 1.0, dtype=squared.dtype, device=squared.device)
    first = counts.cumsum(0) - counts
    skipped = torch.arange(len(counts), device=counts.device) * most - first
    slot = torch.arange(len(squared), device=counts.device) + skipped.repeat_interleave(counts)
    table.view(-1)[slot] = squared
    kept = table <= _kth_smallest(table, keep)
    tied = kept.sum(1) > keep
    if bool(tied.any()):
        nearest = table[tied].sort(dim=1).indices[:, :keep]
        kept[tied] = torch.zeros_like(kept[tied]).scatter_(1, nearest, True)
    return kept.view(-1).index_select(0, slot)


def _kth_smallest(values: Tensor, k: int) -> Tensor:
    """(..., 1) k-th smallest of the last axis; NumPy's vectorised selection where it can be had, twice as fast."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.partition(values.numpy(), k - 1, axis=-1)[..., k - 1 : k])
    return values.kthvalue(k, dim=-1, keepdim=True).values


def _true_places(mask: Tensor) -> Tensor:
    """(K,) indices of what is true in a flat mask."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero()[:, 0]
