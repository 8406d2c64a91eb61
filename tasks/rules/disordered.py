"""MatterGen's matcher: a crystal is also the same as one that differs by which of two alike elements sits where.

Two ordered crystals of one formula match where pymatgen's StructureMatcher says so with its usual tolerances. Where
not, elements of the first that may replace each other share their sites, by their shares of the atoms, and the
second, ordered one may be such an arrangement. Two elements may replace each other where their atomic radii differ by
at most 0.3 of the mean and their electronegativities by at most 1 (Zeni et al. 2025, doi:10.1038/s41586-025-08628-5,
and the settings of its evaluation code).
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.crystals import Crystals
from tasks.structure_match import NotComparable, require_compact

if TYPE_CHECKING:
    from pymatgen.core import Element, Structure

LENGTH_TOLERANCE = 0.2  # of a lattice vector's length
SITE_TOLERANCE = 0.3  # of (volume / atoms)^(1/3)
ANGLE_TOLERANCE = 5.0  # degrees
MOST_RADIUS_DIFFERENCE = 0.3  # of the mean of two atomic radii
MOST_ELECTRONEGATIVITY_DIFFERENCE = 1.0  # Pauling's


@dataclass(frozen=True, eq=False)
class Disordered:
    """A crystal as MatterGen's evaluation compares it."""

    structure: Structure

    @classmethod
    def of(cls, crystals: Crystals, index: int) -> Disordered:
        """One crystal. NotComparable where its cell is beyond what the matcher can reduce."""
        structure = crystals.structure(index)
        require_compact(structure)
        return cls(structure)

    def matches(self, other: Disordered) -> bool:
        """Whether a later crystal of the same formula is the same as this one; it is not symmetric.

        NotComparable where pymatgen fails on the pair.
        """
        later = other.structure
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of noble gases, whose electronegativity sorts the sites
            try:
                if _ordered_matcher().fit(later, self.structure):
                    return True
                groups = replaceable(list(later.composition))
                return bool(groups) and bool(
                    _disordered_matcher().fit(with_shared_sites(later, groups), self.structure)
                )
            except (ValueError, ArithmeticError, IndexError) as error:
                raise NotComparable(f"pymatgen cannot compare it ({error})") from error


def replaceable(elements: Sequence[Element]) -> list[list[Element]]:
    """Groups of at least two elements, each of which may replace another of its group.

    One without a known radius or electronegativity replaces none.
    """
    groups: list[list[Element]] = []
    for one, two in itertools.combinations(elements, 2):
        if not _alike(one, two):
            continue
        touched = [group for group in groups if one in group or two in group]
        groups = [group for group in groups if group not in touched]
        groups.append(list(dict.fromkeys([*itertools.chain(*touched), one, two])))
    return groups


def _alike(one: Element, two: Element) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements without a Pauling electronegativity, which is NaN
        electronegativities = one.X, two.X
    if one.atomic_radius is None or two.atomic_radius is None:
        return False
    first, second = float(one.atomic_radius), float(two.atomic_radius)
    difference = abs(electronegativities[0] - electronegativities[1])
    return bool(
        not math.isnan(difference)
        and difference <= MOST_ELECTRONEGATIVITY_DIFFERENCE
        and abs(first - second) / ((first + second) / 2) <= MOST_RADIUS_DIFFERENCE
    )


def with_shared_sites(structure: Structure, groups: Sequence[Sequence[Element]]) -> Structure:
    """A copy in which every site of a group's elements holds all of them, by their shares of the group's atoms."""
    composition = structure.composition
    shared = structure.copy()
    mixtures: dict[Any, Any] = {}
    for group in groups:
        total = sum(composition[element] for element in group)
        shares = {element: composition[element] / total for element in group}
        mixtures |= dict.fromkeys(group, shares)
    shared.replace_species(mixtures)
    return shared


def disordered_protocol() -> dict[str, Any]:
    """Settings of the matcher, as plain JSON."""
    return {
        "matcher": "ordered, then with the sites of replaceable elements shared",
        "ltol": LENGTH_TOLERANCE,
        "stol": SITE_TOLERANCE,
        "angle_tol": ANGLE_TOLERANCE,
        "radius_difference": MOST_RADIUS_DIFFERENCE,
        "electronegativity_difference": MOST_ELECTRONEGATIVITY_DIFFERENCE,
    }


@functools.cache
def _ordered_matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=LENGTH_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=ANGLE_TOLERANCE)


@functools.cache
def _disordered_matcher() -> Any:
    from pymatgen.analysis.structure_matcher import OrderDisorderElementComparator, StructureMatcher

    return StructureMatcher(
        ltol=LENGTH_TOLERANCE,
        stol=SITE_TOLERANCE,
        angle_tol=ANGLE_TOLERANCE,
        attempt_supercell=True,
        allow_subset=True,
        comparator=OrderDisorderElementComparator(),
    )
