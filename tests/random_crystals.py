"""Random crystals for tests of arithmetic: of any chemistry, in cells that nobody has measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bench.crystals import Crystals
from models.baselines.cdvae.cells import lattices_from_parameters
from models.dense import DenseBatch


def random_crystals(sizes: Sequence[int], seed: int = 0, skew: float = 1.0) -> Crystals:
    """Crystals of these numbers of atoms in cells of about 4 A. skew: standard deviation of the lattice, in A."""
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    lattices = 4 * np.eye(3) + skew * rng.normal(size=(len(sizes), 3, 3))
    return Crystals(np.array(sizes), rng.integers(1, 90, total), rng.random((total, 3)), lattices)


def dense_crystals(batch: int = 4, num_atoms: int = 5) -> DenseBatch:
    """(batch) crystals of as many atoms each, in double precision."""
    g = torch.Generator().manual_seed(2)
    numbers = torch.randint(1, 90, (batch, num_atoms), generator=g)
    x = torch.rand(batch, num_atoms, 3, generator=g, dtype=torch.float64)
    lattices = 4 * torch.eye(3, dtype=torch.float64) + torch.randn(batch, 3, 3, generator=g, dtype=torch.float64)
    return DenseBatch(numbers, x, lattices)


def ragged_crystals(
    sizes: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float64, volume: float = 14.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(num_atoms, frac_coords, atomic_numbers, lattices) of slightly skewed crystals. volume: A^3 an atom."""
    g = torch.Generator().manual_seed(seed)
    num_atoms = torch.tensor(sizes)
    total = int(num_atoms.sum())
    lengths = (volume * num_atoms)[:, None] ** (1 / 3) * (1 + 0.1 * torch.rand(len(sizes), 3, generator=g))
    angles = 90 + 5 * torch.randn(len(sizes), 3, generator=g)
    lattices = lattices_from_parameters(lengths.to(dtype), angles.to(dtype))
    frac_coords = torch.rand(total, 3, generator=g).to(dtype)
    return num_atoms, frac_coords, torch.randint(1, 90, (total,), generator=g), lattices
