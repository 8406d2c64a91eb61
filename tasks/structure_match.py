"""Whether two crystals are the same structure: pymatgen's StructureMatcher behind a filter that loses no match.

The matcher takes 10 ms a pair of MP-20's crystals, at times a hundred times that. It finds nothing where the primitive
cells hold different atoms, or where no three vectors of the first lattice are as long as the second's edges within the
tolerance, both scaled to the same volume; a `Fingerprint` tells that in microseconds.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import Crystals
from bench.errors import one_line

if TYPE_CHECKING:
    from pymatgen.core import Structure

# As the published evaluations match crystals (CDVAE, Xie et al. 2022, and after it DiffCSP, FlowMM and others).
LENGTH_TOLERANCE = 0.3  # of a lattice vector's length
SITE_TOLERANCE = 0.5  # of (volume / atoms)^(1/3)
ANGLE_TOLERANCE = 10.0  # degrees
ROUNDING = 1e-3  # pymatgen's reduced cells have the shortest vectors but for rounding

# Limits of what is compared at all, on the edges of the reduced cell. Pymatgen lists all lattice points within the
# longest edge, and the matcher all pairs of those near the two longest: beyond these limits they take gigabytes, or
# minutes a pair. MP-20's crystals have edges above 2.2 A, elongations up to 6.3 and areas up to 2.7.
MIN_EDGE_ANGSTROM = 0.5  # twice pymatgen's tolerance for the same site, below which a primitive cell has no meaning
MAX_ELONGATION = 10.0  # longest edge over the cube root of the volume
MAX_AREA = 10.0  # product of the two longest edges over the volume to the power 2/3


class NotComparable(ValueError):
    """A crystal that cannot be matched; the message says why."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What decides cheaply that two crystals do not match.

    atoms: (atomic number, atoms) of the primitive cell. lengths: (3,) of its reduced cell's edges, ascending, for a
    volume of 1.
    """

    atoms: tuple[tuple[int, int], ...]
    lengths: FloatArray

    @classmethod
    def of(cls, primitive: Structure) -> Fingerprint:
        """The fingerprint of a crystal in its reduced primitive cell."""
        numbers, counts = np.unique(primitive.atomic_numbers, return_counts=True)
        lengths = np.sort(primitive.lattice.abc) / primitive.volume ** (1 / 3)
        return cls(tuple(zip(numbers.tolist(), counts.tolist(), strict=True)), lengths)

    def may_match(self, other: Fingerprint) -> bool:
        """Whether the matcher could find the other crystal's structure in this one's; False is certain.

        It looks for a basis of this lattice whose vectors are within the tolerance of the other cell's edges. The
        edges of a reduced cell are the shortest vectors that span its lattice, so no basis has shorter ones.
        """
        longest = (1 + LENGTH_TOLERANCE) * (1 + ROUNDING) * other.lengths
        return self.atoms == other.atoms and bool((self.lengths <= longest).all())


@dataclass(frozen=True, eq=False)
class Primitive:
    """A crystal in its reduced primitive cell, as the matcher compares it."""

    structure: Structure
    fingerprint: Fingerprint

    @classmethod
    def of(cls, crystals: Crystals, index: int) -> Primitive:
        """The primitive cell of one crystal. NotComparable where pymatgen finds none, or could not match it."""
        structure = crystals.structure(index)
        require_compact(structure)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of noble gases, whose electronegativity sorts the sites
                structure = structure.get_reduced_structure("niggli").get_primitive_structure()
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            raise NotComparable(f"its cell cannot be reduced ({one_line(error)})") from error
        return cls(structure, Fingerprint.of(structure))

    def matches(self, other: Primitive) -> bool:
        """Whether the matcher takes the other crystal for the same structure as this one; it is not symmetric."""
        return self.fingerprint.may_match(other.fingerprint) and bool(
            _matcher().fit(self.structure, other.structure, skip_structure_reduction=True)
        )

    def rms_distance(self, other: Primitive) -> float | None:
        """RMS displacement of the sites, normalised by (volume / atoms)^(1/3), as published; None without a match."""
        if not self.fingerprint.may_match(other.fingerprint):
            return None
        found = _matcher_of_reduced().get_rms_dist(self.structure, other.structure)
        return None if found is None else float(found[0])


def require_compact(structure: Structure) -> None:
    """NotComparable where a cell's shape is beyond the limits."""
    edges = np.sort(structure.lattice.get_lll_reduced_lattice().abc)  # of any cell at once, unlike Niggli's
    if edges[0] < MIN_EDGE_ANGSTROM:
        raise NotComparable(f"an edge of its reduced cell has {edges[0]:.3g} A")
    lengths = edges / structure.volume ** (1 / 3)
    if lengths[2] > MAX_ELONGATION or lengths[1] * lengths[2] > MAX_AREA:
        raise NotComparable(f"its cell is too thin, with edges of {edges[0]:.3g}, {edges[1]:.3g} and {edges[2]:.3g} A")


def matching_protocol() -> dict[str, Any]:
    """Version and settings of the matcher, as plain JSON."""
    try:
        pymatgen = version("pymatgen-core")
    except PackageNotFoundError:  # before 2026 pymatgen was one package
        pymatgen = version("pymatgen")
    return {
        "pymatgen": pymatgen,
        "ltol": LENGTH_TOLERANCE,
        "stol": SITE_TOLERANCE,
        "angle_tol": ANGLE_TOLERANCE,
        "min_edge_angstrom": MIN_EDGE_ANGSTROM,
        "max_elongation": MAX_ELONGATION,
        "max_area": MAX_AREA,
    }


@functools.cache
def _matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=LENGTH_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=ANGLE_TOLERANCE)


@functools.cache
def _matcher_of_reduced() -> Any:
    """The matcher for cells that are reduced already.

    Pymatgen reduces them again through a cache that takes structures within 1e-5 A for the same: what a pair gives
    would depend on the pairs before it.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    class OfReduced(StructureMatcher):
        @classmethod
        def _get_reduced_structure(cls, struct: Any, primitive_cell: bool = True, niggli: bool = True) -> Any:
            return struct.copy()

    return OfReduced(ltol=LENGTH_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=ANGLE_TOLERANCE)
