"""Smallest distances in periodic crystals: exact for any cell, in bounded memory.

Cells are Minkowski-reduced first (Nguyen and Stehle 2009, doi:10.1145/1597036.1597050, greedy algorithm). Then only
images can be closest whose lattice coordinates stay below bounds that are computed for every crystal, so that skewed,
flat and needle-shaped cells need no more images than others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.crystals import Crystals

MAX_PAIRS = 50_000  # pairs of atoms held at once: a few MB; one crystal of 300 atoms is below
MAX_SWEEPS = 1000  # each shortens a vector; double precision is exhausted long before
SHORTER_BY = 1e-12  # relative; a smaller gain is rounding
ROUNDING = 1e-9  # of lattice coordinates
MAX_REACH = 8.0  # cells; a reduced basis stays below 3, more is a basis that double precision cannot reduce


def closest_pairs(crystals: Crystals) -> FloatArray:
    """(B,) smallest distance in A between different atoms over periodic images; NaN for a single atom.

    An atom's own images do not count. NaN too where a cell is beyond double precision (lengths of 1e100 A).
    """
    distances = np.full(len(crystals), np.nan)
    reduced, to_reduced = reduce_lattices(crystals.lattices)
    for num_atoms in np.unique(crystals.num_atoms[crystals.num_atoms > 1]):
        chosen = np.flatnonzero(crystals.num_atoms == num_atoms)
        num_pairs = num_atoms * (num_atoms - 1) // 2
        for part in np.array_split(chosen, -(-len(chosen) * min(num_pairs, MAX_PAIRS) // MAX_PAIRS)):
            atoms = crystals.offsets[part][:, None] + np.arange(num_atoms)
            with np.errstate(all="ignore"):  # a cell beyond double precision
                distances[part] = _closest(crystals.frac_coords[atoms] @ to_reduced[part], reduced[part])
    return distances


def shortest_translations(lattices: FloatArray) -> FloatArray:
    """(B,) length in A of the shortest lattice vector: how near an atom's own images come. lattices: (B, 3, 3)."""
    with np.errstate(over="ignore"):  # a cell beyond double precision
        return np.asarray(np.sqrt(_squared(reduce_lattices(lattices)[0]).min(axis=1, initial=np.inf)))


def reduce_lattices(lattices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Minkowski-reduced bases of lattices (B, 3, 3), shortest vector first, and (B, 3, 3) whole numbers that give the
    coordinates in them: frac_coords @ them.
    """
    bases = np.array(lattices, dtype=np.float64)
    to_reduced = np.broadcast_to(np.eye(3), bases.shape).copy()
    active = np.arange(len(bases))
    with np.errstate(all="ignore"):
        for _ in range(MAX_SWEEPS):
            if len(active) == 0:
                break
            basis, inverse = bases[active], to_reduced[active]
            order = np.argsort(_squared(basis), axis=1, kind="stable")
            basis = np.take_along_axis(basis, order[:, :, None], axis=1)
            inverse = np.take_along_axis(inverse, order[:, None, :], axis=2)
            shorter = _shorten_second(basis, inverse) | _shorten_third(basis, inverse)
            bases[active], to_reduced[active] = basis, inverse
            active = active[shorter]
    return bases, to_reduced


def _shorten_second(basis: FloatArray, inverse: FloatArray) -> BoolArray:
    """Takes the whole multiple of the first vector that is nearest to the second off it, in place: (b,) any gain."""
    first, second = basis[:, 0], basis[:, 1]
    multiple = np.round((first * second).sum(1) / (first * first).sum(1))
    return _subtract(basis, inverse, 1, np.stack([multiple, np.zeros_like(multiple)], axis=1))


def _shorten_third(basis: FloatArray, inverse: FloatArray) -> BoolArray:
    """Takes the nearest vector of the plane of the first two off the third, in place: (b,) any gain.

    Exact where the first two are reduced: the nearest lies next to the rounded projection.
    """
    first, second, third = basis[:, 0], basis[:, 1], basis[:, 2]
    aa, ab, bb = (first * first).sum(1), (first * second).sum(1), (second * second).sum(1)
    ac, bc = (first * third).sum(1), (second * third).sum(1)
    determinant = aa * bb - ab * ab
    rounded = np.round(np.stack([bb * ac - ab * bc, aa * bc - ab * ac], axis=1) / determinant[:, None])
    around = np.array(sorted(itertools.product((-1, 0, 1), repeat=2), key=lambda m: abs(m[0]) + abs(m[1])))
    multiples = rounded[:, None, :] + around  # (b, 9, 2)
    remainders = third[:, None, :] - multiples @ basis[:, :2]
    best = _squared(remainders).argmin(axis=1)
    return _subtract(basis, inverse, 2, multiples[np.arange(len(best)), best])


def _subtract(basis: FloatArray, inverse: FloatArray, row: int, multiples: FloatArray) -> BoolArray:
    """basis[row] -= multiples of the first two, where that makes it shorter; (b,) where it does."""
    changed = basis[:, row] - (multiples[:, None, :] @ basis[:, :2])[:, 0]
    gains = np.asarray(_squared(changed) < _squared(basis[:, row]) * (1 - SHORTER_BY))
    basis[gains, row] = changed[gains]
    inverse[gains, :, :2] += inverse[gains, :, row, None] * multiples[gains, None, :]
    return gains


def _squared(vectors: FloatArray) -> FloatArray:
    return np.asarray((vectors * vectors).sum(axis=-1))


def _closest(frac_coords: FloatArray, lattices: FloatArray) -> FloatArray:
    """(b,) smallest distance between different atoms. frac_coords: (b, N, 3) in reduced cells (b, 3, 3)."""
    squared = np.full(len(lattices), np.inf)
    spacings, widths = _voronoi_cells(lattices)
    for first, second in _pairs(frac_coords.shape[1]):
        offsets = frac_coords[:, first] - frac_coords[:, second]
        offsets -= np.round(offsets)  # (b, P, 3), each within half a cell
        vectors = offsets @ lattices
        squared = np.minimum(squared, _squared(vectors).min(axis=1))
        for alike, images in _images(squared, spacings, widths):
            for translation in np.moveaxis(images @ lattices[alike], 1, 0):  # (b', 3)
                squared[alike] = np.minimum(squared[alike], _squared(vectors[alike] + translation[:, None]).min(axis=1))
    return np.asarray(np.sqrt(squared))


def _pairs(num_atoms: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Every pair i < j once, about MAX_PAIRS at a time: (P,) i and (P,) j."""
    rows = max(1, MAX_PAIRS // num_atoms)
    for start in range(0, num_atoms - 1, rows):
        first, second = np.triu_indices(min(rows, num_atoms - 1 - start), start + 1, num_atoms)
        yield first + start, second


def _voronoi_cells(lattices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(b, 3) spacing of the lattice planes i, and (b, 3) bound of the i-th coordinate in the Voronoi cell of a lattice
    point. A point v of that cell has |v . b_j| <= |b_j|^2 / 2, so the bound is sum_j |G^-1|_ij |b_j|^2 / 2 with the
    metric tensor G. NaN where the cell is beyond double precision.
    """
    normals = np.cross(np.roll(lattices, -1, axis=1), np.roll(lattices, -2, axis=1))  # (b, 3, 3)
    volumes = (lattices[:, 0] * normals[:, 0]).sum(axis=1)
    reciprocal = normals / volumes[:, None, None]
    inverse_metric = reciprocal @ np.swapaxes(reciprocal, 1, 2)
    widths = (np.abs(inverse_metric) @ _squared(lattices)[:, :, None])[:, :, 0] / 2
    widths[~(widths <= MAX_REACH).all(axis=1)] = np.nan
    return 1 / np.sqrt(_squared(reciprocal)), widths


def _images(squared: FloatArray, spacings: FloatArray, widths: FloatArray) -> Iterator[tuple[IntArray, FloatArray]]:
    """Crystals (b',) that need the same images, and those images (K, 3) but the origin.

    Of a difference within half a cell, an image n away can only be closer than the known distance if
    |n_i| <= 1/2 + x_i, where x_i bounds the i-th coordinate of the image: the distance over the spacing of the planes
    i, or the width of the Voronoi cell, in which the closest image lies; the smaller one counts.
    """
    bounds = np.minimum(np.sqrt(squared)[:, None] / spacings, widths)  # NaN stays NaN
    squared[np.isnan(bounds).any(axis=1)] = np.nan
    reach = np.floor(0.5 + np.nan_to_num(bounds) + ROUNDING).astype(np.int64)
    for reaches in np.unique(reach, axis=0):
        images = np.array(list(itertools.product(*(range(-r, r + 1) for r in reaches))), dtype=np.float64)
        yield np.flatnonzero((reach == reaches).all(axis=1)), images[images.any(axis=1)]
