"""Neighbour lists of a batch of periodic crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystals import Crystals

# Neighbours of one crystal: beyond it, memory and time of one over-dense cell would be those of a thousand others.
MAX_EDGES = 400_000


@dataclass(frozen=True)
class Neighbours:
    """Directed edges i -> j of B crystals with N atoms in all, within a cutoff; both directions are there.

    centres, neighbours: (E,) atoms i and j, ascending by i. images: (E, 3) cells by which j is moved.
    vectors: (E, 3) from i to that image of j, A.
    crystal_of_atom: (N,). atomic_numbers: (N,). num_crystals: B.
    """

    centres: IntArray
    neighbours: IntArray
    images: IntArray
    vectors: FloatArray
    crystal_of_atom: IntArray
    atomic_numbers: IntArray
    num_crystals: int

    @property
    def crystal_of_edge(self) -> IntArray:
        """(E,) crystal of each edge."""
        return self.crystal_of_atom[self.centres]


def expected_edges(crystals: Crystals, cutoff: float) -> FloatArray:
    """(B,) about how many edges each crystal has: atoms times those in a sphere of the crystal's mean density."""
    sphere = 4 / 3 * np.pi * cutoff**3
    with np.errstate(all="ignore"):
        return np.asarray(crystals.num_atoms**2 / crystals.volumes * sphere)


def find_neighbours(crystals: Crystals, cutoff: float) -> Neighbours:
    """All pairs of atoms at most `cutoff` A apart, an atom's own images included.

    ValueError names a crystal that is so dense that it has more than MAX_EDGES of them.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    for b in np.flatnonzero(~(expected_edges(crystals, cutoff) <= MAX_EDGES)).tolist():
        raise ValueError(
            f"crystal {b}: {crystals.num_atoms[b]} atoms in {crystals.volumes[b]:.3g} A^3 have too many neighbours"
        )
    cells = np.repeat(crystals.lattices, crystals.num_atoms, axis=0)
    positions = (crystals.frac_coords[:, None, :] @ cells)[:, 0]
    periodic = np.ones(3, dtype=np.int64)
    parts: list[tuple[IntArray, IntArray, IntArray, FloatArray]] = []
    for b in range(len(crystals)):
        start, stop = crystals.offsets[b], crystals.offsets[b + 1]
        own, lattice = np.ascontiguousarray(positions[start:stop]), np.ascontiguousarray(crystals.lattices[b])
        centres, neighbours, images, distances = find_points_in_spheres(
            own, own, r=float(cutoff), pbc=periodic, lattice=lattice, tol=1e-8
        )
        apart = (centres != neighbours) | (distances > 1e-8)  # not the atom itself
        centres, neighbours, images = centres[apart], neighbours[apart], images[apart]
        vectors = own[neighbours] - own[centres] + images @ lattice
        order = np.argsort(centres, kind="stable")
        parts.append((centres[order] + start, neighbours[order] + start, images[order], vectors[order]))
    return Neighbours(
        _joined([part[0] for part in parts]),
        _joined([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]).astype(np.int64) if parts else np.zeros((0, 3), dtype=np.int64),
        np.concatenate([part[3] for part in parts]) if parts else np.zeros((0, 3)),
        np.repeat(np.arange(len(crystals)), crystals.num_atoms),
        crystals.atomic_numbers,
        len(crystals),
    )


def _joined(parts: Sequence[IntArray]) -> IntArray:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def pair_directions(found: Neighbours) -> tuple[IntArray, IntArray]:
    """Edges in one direction, and the reverse of each: (U,) and (U,) places among the E.

    ValueError where the list is not symmetric.
    """
    first, second, images = found.centres, found.neighbours, found.images
    # Of an atom's own images, those count as forward whose first component that is not zero is positive.
    sign = np.sign(np.sign(images) @ np.array([4, 2, 1]))
    is_forward = (first < second) | ((first == second) & (sign > 0))
    forward, reverse = np.flatnonzero(is_forward), np.flatnonzero(~is_forward)
    keys = np.stack([*images.T, second, first])
    mirrored = np.stack([*(-images.T), first, second])
    ordered = forward[np.lexsort(keys[:, forward])]
    partners = reverse[np.lexsort(mirrored[:, reverse])]
    if not np.array_equal(keys[:, ordered], mirrored[:, partners]):
        raise ValueError("the neighbour list is not symmetric")
    return ordered, partners


def edge_pairs(centres: IntArray) -> tuple[IntArray, IntArray]:
    """Ordered pairs of different edges with the same centre: (T,) first and (T,) second. centres: (E,) ascending."""
    counts = np.bincount(centres) if len(centres) else np.zeros(0, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    partners = counts[centres] - 1
    first = np.repeat(np.arange(len(centres)), partners)
    place = np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners)
    second = starts[centres[first]] + place
    second += second >= first  # skips the edge itself
    return first, second
