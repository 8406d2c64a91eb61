"""Holding the atoms read from a CIF against what else it says: formula, multiplicities, volume and density."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.arrays import IntArray
from bench.crystal_io.cif.blocks import CifItems, numbers_of
from bench.crystal_io.cif.elements import formula_sum, symbol_of
from bench.crystals import AMU_PER_A3_IN_G_PER_CM3, atomic_masses

VOLUME_TOLERANCE = 0.02  # relative
DENSITY_TOLERANCE = 0.03  # relative; isotopes and rounding, not a missing atom but hydrogen, which the formula tells
FORMULA_TOLERANCE = 0.02  # relative, of the number of atoms of an element
MULTIPLICITY_TAGS = ("_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity")


@dataclass(frozen=True)
class Facts:
    """What a CIF says of the content of its cell; None or empty where it says nothing.

    formula: symbol -> number, in one formula unit or in the whole cell. units: formula units in the cell.
    multiplicities: (sites,) images of each in the cell, or, beside operators as old SHELX writes them, how many of
    them keep its place.
    """

    formula: dict[str, float] | None
    units: float | None
    multiplicities: list[float] | None
    density: float | None

    @property
    def tell_atoms(self) -> bool:
        """Whether anything here tells one number of atoms from another."""
        return bool(self.formula or self.multiplicities or self.density)


def facts_of(items: CifItems, sites: int) -> Facts:
    """What a CIF says of its cell, numbers that are none left out."""
    multiplicities = None
    for tag in MULTIPLICITY_TAGS:
        column = items.column(tag)
        if column is not None and len(column) == sites and not {".", "?"} & set(column):
            multiplicities = [1.0] * sites if set(column) == {"1"} else _numbers(column)
    return Facts(
        formula_sum(items),
        _number(items, "_cell_formula_units_z"),
        multiplicities,
        _number(items, "_exptl_crystal_density_diffrn"),
    )


def volume_fault(items: CifItems, volume: float) -> str | None:
    """How the stated volume contradicts that of the cell in A^3, None where it does not."""
    stated = _number(items, "_cell_volume")
    if stated is None or abs(volume - stated) <= VOLUME_TOLERANCE * abs(stated):
        return None
    return f"_cell_volume is {stated:g}, but its lengths and angles give {volume:.6g} A^3"


def contradictions(
    facts: Facts, numbers: IntArray, images: IntArray | None, order: int, volume: float
) -> Iterator[str]:
    """What of the facts the atoms of a cell contradict.

    numbers: (N,) their atomic numbers. images: (sites,) atoms of each site, None where some are listed twice.
    order: of the symmetry where its operators are listed, 0 where not. volume: A^3.
    """
    if facts.multiplicities is not None and images is not None:
        stated = np.array(facts.multiplicities)
        if not np.array_equal(stated, images) and not np.array_equal(stated * images, np.full(len(images), order)):
            place = int(np.flatnonzero(stated != images)[0])
            yield f"atom site {place + 1} has {images[place]} images, but a multiplicity of {stated[place]:g}"
    counts = {symbol_of(z): n for z, n in Counter(numbers.tolist()).items()}
    if facts.formula is not None and not _agree(counts, facts.formula, facts.units):
        units = f" with {facts.units:g} formula units" if facts.units is not None else ""
        yield f"the cell holds {_written(counts)}, but the formula is {_written(facts.formula)}{units}"
    if facts.density:
        density = float(atomic_masses()[numbers].sum()) * AMU_PER_A3_IN_G_PER_CM3 / volume
        if abs(density - facts.density) > DENSITY_TOLERANCE * facts.density:
            yield f"its atoms weigh {density:.3f} g/cm^3, but the density is {facts.density:g}"


def _agree(counts: dict[str, int], formula: dict[str, float], units: float | None) -> bool:
    """Whether the cell holds a whole number of formulas: as many as stated, or one where the formula is the cell's."""
    if set(counts) != {symbol for symbol, number in formula.items() if number > 0}:
        return False
    times = sum(counts.values()) / sum(formula.values())
    allowed = [round(times)] if units is None else [1.0, units]
    return any(
        unit > 0 and all(abs(n - unit * formula[s]) <= FORMULA_TOLERANCE * n for s, n in counts.items())
        for unit in allowed
    )


def _written(counts: dict[str, int] | dict[str, float]) -> str:
    return " ".join(f"{symbol}{number:g}" for symbol, number in sorted(counts.items()))[:120]


def _number(items: CifItems, tag: str) -> float | None:
    text = items.one(tag)
    found = _numbers([text]) if text is not None else None
    return found[0] if found is not None else None


def _numbers(column: Sequence[str]) -> list[float] | None:
    try:
        return numbers_of(column, ("",))
    except ValueError:
        return None
