"""The atoms of the cell from the sites that a CIF lists and its symmetry operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystal_io.cif.settings import Operators, arrays
from bench.crystals import wrap_frac_coords

SAME_SITE = 1e-4  # fraction of the cell in each direction: closer atoms are on one site
UNIT_OF_LAST_DECIMAL = 0.99  # a place that is rounded, or cut, lies less than one unit from what is written
MAX_SHIFT_ANGSTROM = 0.1  # of an atom that is moved onto a special position
FEW_ATOMS = 60  # all pairs of which are compared at once

NEARLY = "lies nearly, but not quite, on a special position; write more decimals"


@dataclass(frozen=True)
class Orbits:
    """The atoms of a cell. sites: (N,) of which site each is an image. coords: (N, 3) fractional, not wrapped.

    images: (sites,) how many atoms each site has. listed_twice: sites that are images of others, left out.
    """

    sites: IntArray
    coords: FloatArray
    images: IntArray
    listed_twice: int = 0


def orbits_of(
    coords: FloatArray,
    numbers: Sequence[int],
    operators: Operators,
    unit: float,
    lattice: FloatArray,
    tolerance_angstrom: float = 0.0,
) -> Orbits:
    """All images of the sites, those of a special position once and exactly there.

    coords: (sites, 3). unit: of the last decimal in which they are written. lattice: (3, 3), rows are vectors.
    tolerance_angstrom: how far off a special position a site may lie, besides what rounding explains.
    ValueError where two sites are one, or a site lies so near a special position that its images are neither.
    """
    _refuse_pairs(coords)
    if len(operators) == 1:
        return Orbits(np.arange(len(coords)), coords, np.ones(len(coords), dtype=np.int64))
    rotations, translations = arrays(operators)
    images = np.einsum("mij,nj->nmi", rotations, coords) + translations  # (sites, M, 3)
    orbits = [_orbit(of_site, unit, lattice, tolerance_angstrom, site) for site, of_site in enumerate(images)]
    sites = np.repeat(np.arange(len(orbits)), [len(orbit) for orbit in orbits])
    atoms = np.concatenate(orbits)
    counts = np.bincount(sites, minlength=len(orbits)).astype(np.int64)
    dropped: set[int] = set()
    for first, second in same_sites(atoms, max(SAME_SITE, UNIT_OF_LAST_DECIMAL * unit)):
        one, other = sorted((int(sites[first]), int(sites[second])))
        if one == other:
            raise ValueError(f"atom site {one + 1} {NEARLY}")
        if numbers[one] != numbers[other] or counts[one] != counts[other]:
            raise ValueError(f"atom sites {one + 1} and {other + 1} are one, by symmetry; remove one of them")
        dropped.add(other)
    keep = ~np.isin(sites, list(dropped))
    return Orbits(sites[keep], atoms[keep], counts, len(dropped))


def _orbit(images: FloatArray, unit: float, lattice: FloatArray, tolerance_angstrom: float, site: int) -> FloatArray:
    """(m, 3) the different ones among the images (M, 3) of a site."""
    shifts = images - images[0]
    shifts -= np.rint(shifts)
    allowed = max(SAME_SITE / 2, UNIT_OF_LAST_DECIMAL * unit)
    near = np.abs(shifts).max(axis=1) <= 4 * allowed  # of images of a rounded place, on either side of the exact one
    if tolerance_angstrom:
        near |= np.linalg.norm(shifts @ lattice, axis=1) <= 2 * tolerance_angstrom
    if not near[1:].any():
        return images
    offset = shifts[near].mean(axis=0)
    distance = float(np.linalg.norm(offset @ lattice))
    by_rounding = np.abs(offset).max() <= allowed and distance <= MAX_SHIFT_ANGSTROM
    if not by_rounding and distance > tolerance_angstrom:
        return images
    return _symmetrised(images, shifts[near], int(near.sum()), lattice, site)


def _symmetrised(images: FloatArray, near: FloatArray, size: int, lattice: FloatArray, site: int) -> FloatArray:
    """Each group of `size` images that belong together, at their mean."""
    radius = 2 * float(np.linalg.norm(near @ lattice, axis=1).max()) + 1e-6
    found: list[FloatArray] = []
    left = np.ones(len(images), dtype=bool)
    for place in range(len(images)):
        if not left[place]:
            continue
        shifts = images - images[place]
        shifts -= np.rint(shifts)
        distances = np.where(left, np.linalg.norm(shifts @ lattice, axis=1), np.inf)
        group = np.argsort(distances, kind="stable")[:size]
        if distances[group[-1]] > radius:
            raise ValueError(f"atom site {site + 1} {NEARLY}")
        left[group] = False
        found.append(images[place] + shifts[group].mean(axis=0))
    return np.array(found)


def same_sites(coords: FloatArray, tolerance: float) -> list[tuple[int, int]]:
    """Pairs of atoms (first < second) that lie within a fraction of the cell of each other in every direction."""
    if len(coords) <= FEW_ATOMS:
        shifts = coords[:, None] - coords
        shifts -= np.rint(shifts)
        close = (np.abs(shifts) <= tolerance).all(axis=2)
        if np.count_nonzero(close) == len(coords):
            return []
        return [(int(i), int(j)) for i, j in np.argwhere(np.triu(close, 1))]
    pairs = _tree(coords).query_pairs(tolerance, p=np.inf)
    return sorted((int(first), int(second)) for first, second in pairs)


def same_atoms(one: Orbits, other: Orbits) -> bool:
    """Whether both are the same atoms of the same sites, in whatever order."""
    if len(one.sites) != len(other.sites):
        return False
    first, second = (np.column_stack([orbits.coords, orbits.sites]) for orbits in (one, other))
    return all(
        bool(np.isfinite(_tree(these).query(_wrapped(those), p=np.inf, distance_upper_bound=SAME_SITE)[0]).all())
        for these, those in ((first, second), (second, first))
    )


def _refuse_pairs(coords: FloatArray) -> None:
    """ValueError where two sites are one. Of thousands on one site not all pairs are looked for."""
    if len(coords) <= FEW_ATOMS:
        pairs = same_sites(coords, SAME_SITE)
    else:
        _, nearest = _tree(coords).query(_wrapped(coords), k=2, p=np.inf, distance_upper_bound=SAME_SITE)
        near = np.flatnonzero((nearest < len(coords)).all(axis=1))
        pairs = [(int(pair.min()), int(pair.max())) for pair in nearest[near[:1]]]
    for first, second in pairs:
        raise ValueError(f"atom sites {first + 1} and {second + 1} are one; remove one of them")


def _tree(points: FloatArray) -> Any:
    """A tree of points whose first three coordinates are fractional; further ones do not repeat."""
    from scipy.spatial import cKDTree

    return cKDTree(_wrapped(points), boxsize=np.array([1.0, 1.0, 1.0, 0.0])[: points.shape[1]])


def _wrapped(points: FloatArray) -> FloatArray:
    return np.column_stack([wrap_frac_coords(points[:, :3]), points[:, 3:]])
