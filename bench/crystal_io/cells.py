"""Cells by their lengths and angles, and coordinates in them: what cannot be, and what contradicts the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.arrays import FloatArray

SAME_CELL = 0.01  # relative; cells are saved in single precision
HALF_TURN = 3.15  # degrees; a half turn is 3.1416 radians
RADIANS = f"its three angles are below {HALF_TURN} degrees, so they are radians; save degrees"
CONTRADICTION = "its lattice is not that of its lengths and angles"

# An operator of symmetry takes coordinates of 0 to 1 no farther, such as -x-y, and programs write what it gives.
FAR = "coordinates beyond -2 to 3: read as fractional, as the file has them; are they Cartesian?"


def lattices_from_parameters(lengths: ArrayLike, angles: ArrayLike) -> FloatArray:
    """(B, 3, 3) lattices in A as pymatgen orients them: c along z, a in the xz plane.

    lengths: (B, 3) A. angles: (B, 3) degrees. NaN where a length is not positive.
    """
    a, b, c = np.asarray(lengths, dtype=np.float64).reshape(-1, 3).T
    alpha, beta, gamma = np.radians(np.asarray(angles, dtype=np.float64).reshape(-1, 3)).T
    with np.errstate(all="ignore"):
        cosine = (np.cos(alpha) * np.cos(beta) - np.cos(gamma)) / (np.sin(alpha) * np.sin(beta))
        gamma_star = np.arccos(np.clip(cosine, -1, 1))
        zero, b_xy = np.zeros_like(a), b * np.sin(alpha)
        vectors = [
            np.stack([a * np.sin(beta), zero, a * np.cos(beta)], axis=1),
            np.stack([-b_xy * np.cos(gamma_star), b_xy * np.sin(gamma_star), b * np.cos(alpha)], axis=1),
            np.stack([zero, zero, c], axis=1),
        ]
    lattices = np.stack(vectors, axis=1)  # (B, 3, 3)
    lattices[~((a > 0) & (b > 0) & (c > 0))] = np.nan
    return lattices


def impossible_parameters(lengths: ArrayLike, angles: ArrayLike) -> dict[int, str]:
    """Cell -> why finite lengths and angles are those of none. Shapes as in `lattices_from_parameters`."""
    sizes = np.asarray(lengths, dtype=np.float64).reshape(-1, 3)
    turns = np.asarray(angles, dtype=np.float64).reshape(-1, 3)
    faults: dict[int, str] = {}
    for cell in np.flatnonzero((sizes <= 0).any(axis=1)):
        faults[int(cell)] = f"a length of its cell is {sizes[cell][sizes[cell] <= 0][0]:g} A"
    outside = (turns <= 0) | (turns >= 180)
    for cell in np.flatnonzero(outside.any(axis=1)):
        faults[int(cell)] = f"an angle of its cell is {turns[cell][outside[cell]][0]:g} degrees, not between 0 and 180"
    for cell in np.flatnonzero(((turns > 0) & (turns < HALF_TURN)).all(axis=1)):
        faults[int(cell)] = RADIANS
    return faults


def another_cell(cells: FloatArray, lattices: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(B,) whether two lattices are not the same up to a rotation, by the products of their vectors."""
    first, second = (c @ c.transpose(0, 2, 1) for c in (cells, lattices))
    size = np.abs(first).max(axis=(1, 2), initial=0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(first - second).max(axis=(1, 2), initial=0.0) > 2 * SAME_CELL * size)


def fractional(positions: ArrayLike, lattice: FloatArray) -> FloatArray:
    """(N, 3) fractional coordinates of Cartesian positions (N, 3) in A.

    ValueError where they are no such array, or the lattice (3, 3) has no volume.
    """
    places = rows_of_three(positions, "positions")
    try:
        return np.asarray(np.linalg.solve(lattice.T, places.T).T, dtype=np.float64)
    except np.linalg.LinAlgError:
        raise ValueError(f"lattice has volume {abs(np.linalg.det(lattice)):.3g} A^3") from None


def lattice_of(vectors: ArrayLike) -> FloatArray:
    """(3, 3) A, of three vectors or nine numbers in a row. ValueError for any other shape."""
    array = np.array(vectors, dtype=np.float64)
    if array.shape not in ((3, 3), (9,)):
        raise ValueError(f"the lattice has the shape {array.shape}, not (3, 3)")
    return array.reshape(3, 3)


def rows_of_three(values: ArrayLike, name: str) -> FloatArray:
    """(N, 3) of such an array, or of 3 N numbers in a row. ValueError for any other shape."""
    array = np.array(values, dtype=np.float64)
    if array.size % 3 or (array.ndim != 1 and array.shape[-1] != 3):
        raise ValueError(f"{name} have the shape {array.shape}, not (atoms, 3)")
    return array.reshape(-1, 3)


def is_far(frac_coords: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(N,) which of (N, 3) fractional coordinates lie so far outside of the cell that they may be Cartesian ones."""
    return np.asarray((np.abs(frac_coords - 0.5) > 2.5).any(axis=1))
