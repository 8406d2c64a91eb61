"""Atoms that no potential can say anything about: those without a neighbour within its range feel no force."""

from __future__ import annotations

import numpy as np

from bench.arrays import IntArray
from bench.crystals import Crystals
from tasks.stability.potentials import Potential

NEAR = 3.5  # A; nearly every atom has a neighbour so near, which spares the search in the whole range
USUAL_CUTOFF = 6.0  # A, of a potential that does not say its own: most have 5 or 6


def cutoff_of(potential: Potential) -> float:
    """A, beyond which atoms do not feel each other directly."""
    return float(getattr(potential, "cutoff", USUAL_CUTOFF))


def lone_atoms(crystal: Crystals, cutoff: float) -> IntArray:
    """Places of the atoms of one crystal without a neighbour, their own images among them, at most `cutoff` A away."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(crystal.lattices[0])
    positions = np.ascontiguousarray(crystal.frac_coords @ lattice)
    lone = np.arange(len(positions))
    for radius in (min(NEAR, cutoff), cutoff):
        if len(lone) == 0:
            break
        centres, neighbours, _, distances = find_points_in_spheres(
            positions,
            np.ascontiguousarray(positions[lone]),
            r=float(radius),
            pbc=np.ones(3, dtype=np.int64),
            lattice=lattice,
            tol=1e-8,
        )
        has_one = centres[(lone[centres] != neighbours) | (distances > 1e-8)]
        lone = np.delete(lone, np.unique(has_one))
    return lone


def isolation(crystal: Crystals, cutoff: float) -> str | None:
    """Why a crystal has no meaning for a potential of that range: it has lone atoms; None where it has none."""
    lone = lone_atoms(crystal, cutoff)
    if len(lone) == 0:
        return None
    from pymatgen.core import Element

    numbers = np.unique(crystal.atomic_numbers[lone])
    symbols = ", ".join(str(Element.from_Z(int(z)).symbol) for z in numbers)
    which = "its atom" if crystal.num_atoms[0] == 1 else f"{len(lone)} of its {crystal.num_atoms[0]} atoms"
    has = "has" if len(lone) == 1 else "have"
    return f"{which} ({symbols}) {has} no neighbour within {cutoff:g} A, the potential's range"
