"""LeMat-GenBench's rules of structure: distances by atomic radii, and a plausible cell."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import MAX_ATOMIC_NUMBER
from bench.errors import one_line

if TYPE_CHECKING:
    from pymatgen.core import Structure

SHARE_OF_RADII, MORE_ANGSTROM = 0.5, 0.7  # two atoms are at least 0.5 (r1 + r2 + 0.7 A) apart
UNKNOWN_RADIUS_ANGSTROM = 1.0
MASS_DENSITY = (0.01, 25.0)  # g/cm^3
ATOM_DENSITY = (1e-5, 0.5)  # atoms / A^3
EDGE_ANGSTROM = (1.0, 100.0)
MIN_VOLUME_ANGSTROM3 = 1.0


def structure_fault(structure: Structure) -> str | None:
    """What makes a structure invalid by the rule, None where it is valid."""
    return _distance_fault(structure) or _cell_fault(structure)


def _distance_fault(structure: Structure) -> str | None:
    """Two different atoms that are too near, over periodic images; an atom's own images do not count."""
    radii = atomic_radii()[list(structure.atomic_numbers)]
    allowed = SHARE_OF_RADII * (MORE_ANGSTROM + radii[:, None] + radii)
    first, second = np.triu_indices(len(radii), 1)
    distances = structure.distance_matrix[first, second]
    near = np.flatnonzero(distances < allowed[first, second])
    if not len(near):
        return None
    i, j = first[near[0]], second[near[0]]
    apart = f"{distances[near[0]]:.3f} A apart, below {allowed[i, j]:.3f}"
    return f"{structure[i].specie} and {structure[j].specie} {apart}"


def _cell_fault(structure: Structure) -> str | None:
    from pymatgen.io.cif import CifWriter
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    volume = structure.volume
    if not volume > MIN_VOLUME_ANGSTROM3:
        return f"volume {volume:.3g} A^3"
    for what, value, (low, high) in (
        ("density", float(structure.density), MASS_DENSITY),
        ("atoms/A^3", len(structure) / volume, ATOM_DENSITY),
        *(("edge", edge, EDGE_ANGSTROM) for edge in structure.lattice.abc),
    ):
        if not low <= value <= high:
            return f"{what} {value:.3g}, not within {low:g} to {high:g}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            str(CifWriter(structure))
            SpacegroupAnalyzer(structure).get_space_group_number()
    except (SymmetryUndeterminedError, TypeError, ValueError) as error:
        return f"no CIF or no space group ({one_line(error)})"
    return None


@functools.cache
def atomic_radii() -> FloatArray:
    """(119,) atomic radii in A by atomic number, from pymatgen."""
    from pymatgen.core import Element

    radii = np.full(MAX_ATOMIC_NUMBER + 1, UNKNOWN_RADIUS_ANGSTROM)
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        radii[number] = float(Element.from_Z(number).atomic_radius or UNKNOWN_RADIUS_ANGSTROM)
    return radii


def plausibility_protocol() -> dict[str, Any]:
    """Limits of the rules, as plain JSON."""
    return {
        "min_distance": {"share_of_radii": SHARE_OF_RADII, "more_angstrom": MORE_ANGSTROM},
        "mass_density": MASS_DENSITY,
        "atom_density": ATOM_DENSITY,
        "edge_angstrom": EDGE_ANGSTROM,
        "min_volume_angstrom3": MIN_VOLUME_ANGSTROM3,
    }
