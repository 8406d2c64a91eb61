"""A crystal of every space group in every tabulated setting, with atoms on special and general positions."""

from collections.abc import Iterator
from dataclasses import dataclass

import gemmi
import numpy as np
from pymatgen.core import Lattice, Structure

ELEMENTS = ("Sr", "Ti", "O", "Fe", "S", "Cl", "La", "Zn", "P")
VOLUME_A3 = 16  # of an atom
MIN_DISTANCE_A = 1.0
MAX_ATOMS = 110


@dataclass(frozen=True)
class SymmetricCrystal:
    """A group, the sites of its asymmetric unit, and all atoms of the cell. coords: (sites, 3) fractional."""

    group: gemmi.SpaceGroup
    symbols: tuple[str, ...]
    coords: np.ndarray
    whole: Structure


def site(rng: np.random.Generator) -> np.ndarray:
    """A place of a kind that is special in many groups, or a general one."""
    x, y, z = rng.uniform(0.03, 0.97, 3)
    kinds = [
        *((0, 0, 0), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (0.125, 0.125, 0.125), (1 / 3, 2 / 3, 0.25)),
        *((x, x, x), (x, 0, 0), (0, y, 0.25), (0, 0, z), (x, 2 * x, z), (x, -x, z), (1 / 3, 2 / 3, z)),
        *((x, 0.25, z), (x, y, 0), (x, y, z)),
    ]
    return np.array(kinds[rng.integers(len(kinds))])


def images(coords: np.ndarray, rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """(m, 3) the different images of a place."""
    found: list[np.ndarray] = []
    for image in rotations @ coords + translations:
        if not any(np.abs(image - other - np.rint(image - other)).max() < 1e-6 for other in found):
            found.append(image)
    return np.array(found)


def crystal(group: gemmi.SpaceGroup, rng: np.random.Generator) -> SymmetricCrystal:
    """A crystal of the group; sites that lie too near to others are drawn anew."""
    operators = list(group.operations())
    rotations = np.array([op.rot for op in operators]) / gemmi.Op.DEN
    translations = np.array([op.tran for op in operators]) / gemmi.Op.DEN
    basis = np.eye(3) + rng.uniform(-0.15, 0.15, (3, 3)) + np.diag(rng.uniform(0, 0.5, 3))
    metric = np.einsum("nji,jk,nkl->il", rotations, basis @ basis.T, rotations) / len(operators)
    lattice = Lattice(np.linalg.cholesky(metric))
    while True:
        coords, numbers = [], rng.integers(1, 4)
        orbits: list[np.ndarray] = []
        for _ in range(20):
            place = site(rng)
            orbit = images(place, rotations, translations)
            if len(orbits) < numbers and sum(map(len, orbits)) + len(orbit) <= MAX_ATOMS:
                coords.append(place)
                orbits.append(orbit)
        if not orbits:
            continue
        symbols = tuple(rng.choice(ELEMENTS, len(orbits), replace=False).tolist())
        atoms = np.concatenate(orbits)
        cell = lattice.scale(VOLUME_A3 * len(atoms))
        cell = Lattice.from_parameters(*(round(value, 4) for value in cell.parameters))
        whole = Structure(cell, np.repeat(symbols, [len(orbit) for orbit in orbits]).tolist(), atoms)
        distances = whole.distance_matrix + 9 * np.eye(len(whole))
        if distances.min() > MIN_DISTANCE_A and min(cell.abc) > MIN_DISTANCE_A:
            return SymmetricCrystal(group, symbols, np.array(coords), whole)


def crystals(each: int, seed: int = 0, step: int = 1) -> Iterator[SymmetricCrystal]:
    """So many of each setting, or of every step-th and of the standard one of each group."""
    rng = np.random.default_rng(seed)
    for place, group in enumerate(gemmi.spacegroup_table()):
        if place % step == 0 or (group.is_reference_setting() and step <= 10):
            for _ in range(each):
                yield crystal(group, rng)
