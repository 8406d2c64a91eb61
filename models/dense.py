"""Dense batches: crystals of one size N as (B, N, ...) tensors, without edge lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.arrays import IntArray
from bench.crystals import Crystals, FilteredCrystals, filter_crystals


@dataclass(frozen=True)
class DenseBatch:
    """B crystals of N atoms each.

    atomic_numbers: (B, N) int64. frac_coords: (B, N, 3). lattices: (B, 3, 3) in Angstrom, rows are vectors.
    """

    atomic_numbers: Tensor
    frac_coords: Tensor
    lattices: Tensor

    def __len__(self) -> int:
        return len(self.lattices)

    @property
    def num_atoms(self) -> int:
        """N, the same for every crystal of the batch."""
        return self.atomic_numbers.shape[1]

    def take(self, indices: Tensor) -> DenseBatch:
        """The crystals at `indices` (K,)."""
        return DenseBatch(self.atomic_numbers[indices], self.frac_coords[indices], self.lattices[indices])

    def slice(self, start: int, stop: int) -> DenseBatch:
        """Crystals start .. stop - 1."""
        part = slice(start, stop)
        return DenseBatch(self.atomic_numbers[part], self.frac_coords[part], self.lattices[part])

    def to(self, device: str | torch.device) -> DenseBatch:
        """The same batch on another device."""
        return DenseBatch(self.atomic_numbers.to(device), self.frac_coords.to(device), self.lattices.to(device))


def buckets(num_atoms: IntArray) -> Iterator[tuple[int, IntArray]]:
    """(N, indices of the crystals with N atoms), N ascending."""
    for n in np.unique(num_atoms):
        yield int(n), np.flatnonzero(num_atoms == n)


def require_at_most(max_atoms: int, crystals: Sequence[DenseBatch]) -> None:
    """ValueError where one of the crystals has more atoms than a model can make."""
    largest = max(batch.num_atoms for batch in crystals)
    if largest > max_atoms:
        raise ValueError(f"a crystal of {largest} atoms, but the model makes at most {max_atoms} (max_atoms)")


def drawn_compositions(crystals: Sequence[DenseBatch], number: int, seed: int) -> list[IntArray]:
    """Compositions of so many of the crystals, drawn with replacement, (N_i,) atomic numbers each."""
    rows = [numbers for batch in crystals for numbers in batch.atomic_numbers.cpu().numpy()]
    return [rows[k] for k in np.random.default_rng(seed).choice(len(rows), size=number)]


def pack(crystals: Crystals, dtype: torch.dtype = torch.float32) -> list[DenseBatch]:
    """The crystals as one dense batch per size N, in the order of `buckets`."""
    batches = []
    for n, indices in buckets(crystals.num_atoms):
        atoms = (crystals.offsets[indices][:, None] + np.arange(n)).reshape(-1)  # (B * N,)
        batches.append(
            DenseBatch(
                torch.from_numpy(crystals.atomic_numbers[atoms].reshape(-1, n)),
                torch.from_numpy(crystals.frac_coords[atoms].reshape(-1, n, 3)).to(dtype),
                torch.from_numpy(crystals.lattices[indices]).to(dtype),
            )
        )
    return batches


def unpack(batches: Sequence[DenseBatch], places: Sequence[IntArray]) -> FilteredCrystals:
    """Crystals from dense batches; crystal b of batch k takes place `places[k][b]` among those asked for.

    The places are 0 .. B-1 in all. Crystals that are not finite or have no volume are set aside with a reason.
    """
    total = sum(len(p) for p in places)
    num_atoms = np.zeros(total, dtype=np.int64)
    for batch, where in zip(batches, places, strict=True):
        num_atoms[where] = batch.num_atoms
    starts = np.concatenate([[0], np.cumsum(num_atoms)])
    atomic_numbers = np.zeros(starts[-1], dtype=np.int64)
    frac_coords = np.zeros((starts[-1], 3))
    lattices = np.zeros((total, 3, 3))
    for batch, where in zip(batches, places, strict=True):
        atoms = (starts[where][:, None] + np.arange(batch.num_atoms)).reshape(-1)
        atomic_numbers[atoms] = batch.atomic_numbers.cpu().numpy().reshape(-1)
        frac_coords[atoms] = batch.frac_coords.double().cpu().numpy().reshape(-1, 3)
        lattices[where] = batch.lattices.double().cpu().numpy()
    return filter_crystals(num_atoms, atomic_numbers, frac_coords, lattices)
