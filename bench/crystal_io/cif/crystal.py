"""The crystal of a CIF: its cell, the sites that it lists, the atoms that symmetry makes of them."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystal_io.cells import FAR, HALF_TURN, RADIANS, is_far
from bench.crystal_io.cif.blocks import CifItems, numbers_of, parse_block
from bench.crystal_io.cif.checks import Facts, contradictions, facts_of, volume_fault
from bench.crystal_io.cif.elements import elements_of
from bench.crystal_io.cif.orbits import Orbits, orbits_of, same_atoms
from bench.crystal_io.cif.settings import Operators
from bench.crystal_io.cif.symmetry import REMEDY, Symmetry, fits_cell, symmetry_of
from bench.crystal_io.streams import MAX_ATOMS

MAX_IMAGES = 2 * MAX_ATOMS  # of atom sites by symmetry; those on special positions coincide
MIN_THICKNESS_ANGSTROM = 0.01  # of a cell; a search for neighbours in a flatter one would have no end
THIRD_TOLERANCE = 1e-4  # relative, of coordinates that are taken for 1/3 or 2/3, as in pymatgen
SLOPPY_ANGSTROM = 0.25  # how far off its special position a site may lie where all that the file says places it there
CELL_TAGS = (
    *(f"_cell_length_{axis}" for axis in "abc"),
    *(f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")),
)
MOST = (1e6, 1e6, 1e6, 180, 180, 180)  # Angstrom and degrees
COORDINATE_TAGS = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
CHOSEN = "symmetry contradicts itself or leaves a choice: read in the one way that agrees with all else in the file"
LISTED_TWICE = "atoms listed that symmetry gives as well: each taken once"
MOVED = "atoms farther off a special position than rounding explains: moved there, as all else in the file has it"
WHOLE = frozenset({"1", "1.0", "1.00", "1.000", "1.0000", "1.00000000", "."})


class Atoms(NamedTuple):
    """One crystal as plain arrays, with remarks on how it was read.

    atomic_numbers: (N,). frac_coords: (N, 3), not wrapped. lattice: (3, 3) Angstrom, rows are the lattice vectors.
    """

    atomic_numbers: IntArray
    frac_coords: FloatArray
    lattice: FloatArray
    remarks: tuple[str, ...] = ()


class _Cell(NamedTuple):
    """parameters: (6,) lengths in Angstrom and angles in degrees. lattice: (3, 3) Angstrom. volume: Angstrom^3."""

    parameters: Sequence[float]
    lattice: FloatArray
    volume: float


class _Sites(NamedTuple):
    """What the file lists. written: the columns of coordinates as they stand there."""

    numbers: list[int]
    coords: FloatArray
    written: Sequence[Sequence[str]]


def plain_crystal(cif: str) -> Atoms:
    """The one crystal of a CIF text in the cell that it gives, with all atoms that its symmetry makes.

    Atoms come in order of electronegativity, coordinates within 1e-4 of a third are moved there, both as in pymatgen.
    What was read is held against everything else that the file says; where its symmetry contradicts itself, the one
    reading that satisfies all else is taken, with a remark. ValueError where there is none, more than one, or where an
    atom is none that can be placed: of no element, not quite there, without coordinates, on another one's site.
    """
    items = parse_block(cif)
    parameters = _parameters(items)
    sites = _sites(items)
    cell = _Cell(parameters, *_lattice(parameters))
    symmetry = symmetry_of(items, parameters)
    if fault := volume_fault(items, cell.volume):
        raise ValueError(f"contradicts itself: {fault}")
    facts = facts_of(items, len(sites.numbers))
    orbits, remarks = _agreed(symmetry, sites, facts, cell)
    numbers = np.array(sites.numbers, dtype=np.int64)[orbits.sites]
    order = np.argsort(_ranks()[numbers], kind="stable")
    far = (FAR,) if is_far(sites.coords).any() else ()
    return Atoms(numbers[order], orbits.coords[order], cell.lattice, (*remarks, *far))


def _agreed(symmetry: Symmetry, sites: _Sites, facts: Facts, cell: _Cell) -> tuple[Orbits, tuple[str, ...]]:
    """The atoms by the one reading of the symmetry that agrees with all that the file says."""
    tried = [_tried(operators, symmetry, sites, facts, cell, 0.0) for operators in symmetry.readings]
    good = [(orbits, remarks) for orbits, remarks, faults in tried if orbits is not None and not faults]
    if not symmetry.conflict and good:
        return good[0]
    if not good and facts.tell_atoms:
        looser = [_tried(operators, symmetry, sites, facts, cell, SLOPPY_ANGSTROM) for operators in symmetry.readings]
        good = [(orbits, (*remarks, MOVED)) for orbits, remarks, faults in looser if orbits is not None and not faults]
    different = [good[n] for n in range(len(good)) if not any(same_atoms(good[n][0], good[m][0]) for m in range(n))]
    if len(different) == 1 and (facts.tell_atoms or len(good) == len(symmetry.readings) > 1):
        orbits, remarks = different[0]
        return orbits, (*remarks, CHOSEN) if symmetry.conflict else remarks
    if different:
        raise ValueError(f"{symmetry.conflict}; {REMEDY}, in quotes and all of them, or correct the rest")
    faults = list(dict.fromkeys(fault for _, _, faults in tried for fault in faults[:1]))
    said = "; ".join(faults[:3])
    if not symmetry.conflict and len(symmetry.readings) == 1 and tried[0][0] is None:
        raise ValueError(said)
    raise ValueError(f"contradicts itself: {symmetry.conflict + '; ' if symmetry.conflict else ''}{said}")


def _tried(
    operators: Operators,
    symmetry: Symmetry,
    sites: _Sites,
    facts: Facts,
    cell: _Cell,
    tolerance_angstrom: float,
) -> tuple[Orbits | None, tuple[str, ...], list[str]]:
    """The atoms by these operators, remarks on them, and what contradicts them."""
    count = len(sites.numbers)
    if count * len(operators) > MAX_IMAGES:
        too_many = f"{count * len(operators)} images of {count} atom sites; at most {MAX_IMAGES} are placed"
        return None, (), [too_many]
    if not fits_cell(operators, cell.parameters):
        return None, (), [f"the cell is not that of its {len(operators)} operators"]
    unit = _unit(sites.written) if len(operators) > 1 else 0.0
    try:
        orbits = orbits_of(sites.coords, sites.numbers, operators, unit, cell.lattice, tolerance_angstrom)
    except ValueError as error:
        return None, (), [str(error)]
    numbers = np.array(sites.numbers, dtype=np.int64)[orbits.sites]
    images = None if orbits.listed_twice else orbits.images
    order = len(operators) if operators in symmetry.listed else 0
    faults = list(contradictions(facts, numbers, images, order, cell.volume))
    if orbits.listed_twice and len(orbits.sites) != count and not facts.formula and not facts.density:
        faults.append(f"of {count} atom sites {orbits.listed_twice} are images of others; list each once")
    return orbits, (LISTED_TWICE,) if orbits.listed_twice else (), faults


def _parameters(items: CifItems) -> list[float]:
    """(6,) lengths and angles. ValueError where one is missing or impossible."""
    texts = [items.one(tag) for tag in CELL_TAGS]
    if None in texts:
        raise ValueError(f"no CIF of a crystal: has no cell ({CELL_TAGS[texts.index(None)]})")
    parameters = numbers_of([text for text in texts if text is not None], CELL_TAGS)
    for tag, value, most in zip(CELL_TAGS, parameters, MOST, strict=True):
        if not 0 < value < most:
            raise ValueError(f"{tag} is {value:g}")
    if max(parameters[3:]) < HALF_TURN:
        raise ValueError(RADIANS)
    return parameters


def _lattice(parameters: Sequence[float]) -> tuple[FloatArray, float]:
    """(3, 3) the cell as pymatgen lays it, c along z and a in the plane of x and z, and its volume in A^3.

    The same to the last bit as pymatgen's `Lattice.from_parameters`, which takes a fifth of the time of a small CIF.
    """
    a, b, c = parameters[:3]
    cosines = [math.cos(math.radians(angle)) for angle in parameters[3:]]
    sines = [math.sin(math.radians(angle)) for angle in parameters[3:]]
    cosine = (cosines[0] * cosines[1] - cosines[2]) / (sines[0] * sines[1])
    gamma_star = float(np.arccos(min(max(cosine, -1.0), 1.0)))
    lattice = np.array(
        [
            [a * sines[1], 0.0, a * cosines[1]],
            [-b * sines[0] * math.cos(gamma_star), b * sines[0] * math.sin(gamma_star), b * cosines[0]],
            [0.0, 0.0, c],
        ]
    )
    volume = float(lattice[0, 0] * lattice[1, 1] * c)
    if volume < MIN_THICKNESS_ANGSTROM * max(b * c * sines[0], a * c * sines[1], a * b * sines[2]):
        raise ValueError(f"lattice has volume {volume:.3g} A^3 and is thinner than {MIN_THICKNESS_ANGSTROM:g} A")
    return lattice, volume


def _sites(items: CifItems) -> _Sites:
    """The sites that the file lists. ValueError naming what is wrong with one of them."""
    columns = [items.column(tag) for tag in COORDINATE_TAGS]
    if any(column is None for column in columns):
        missing = COORDINATE_TAGS[columns.index(None)]
        only = " but Cartesian ones; write fractional ones" if items.column("_atom_site_cartn_x") is not None else ""
        raise ValueError(f"no CIF of a crystal: has no atom sites with fractional coordinates ({missing}){only}")
    written = [column for column in columns if column is not None]
    count = len(written[0])
    if count == 0:
        raise ValueError("its list of atom sites is empty")
    if count > MAX_ATOMS:
        raise ValueError(f"{count} atom sites are listed; at most {MAX_ATOMS} are read")
    _check_loops(items)
    numbers = elements_of(items, count)
    values = [numbers_of(column, (tag,)) for tag, column in zip(COORDINATE_TAGS, written, strict=True)]
    coords = np.array(list(zip(*values, strict=True)))  # (sites, 3)
    if (np.abs(np.abs(coords - 0.5) - 1 / 6) < THIRD_TOLERANCE).any():
        for third in (1 / 3, 2 / 3):
            coords[np.abs(coords / third - 1) <= THIRD_TOLERANCE] = third
    labels = items.column("_atom_site_label") or items.column("_atom_site_type_symbol") or []
    _refuse_what_is_not_quite_there(items, labels)
    return _Sites(numbers, coords, written)


def _unit(written: Sequence[Sequence[str]]) -> float:
    """Of the last decimal of coordinates, whose zeros at the end may be left out: the smallest of all."""
    decimals = 2
    for column in written:
        for text in column:
            mantissa, _, exponent = text.partition("(")[0].lower().partition("e")
            digits = len(mantissa.partition(".")[2]) - (int(exponent[:4]) if exponent else 0)
            decimals = max(decimals, min(digits, 16))
    return float(10.0**-decimals)


def _check_loops(items: CifItems) -> None:
    """ValueError where columns of atoms stand in another loop than their coordinates, so that nobody knows whose."""
    own = items.loops.get(COORDINATE_TAGS[0])
    tags = (*COORDINATE_TAGS, "_atom_site_label", "_atom_site_type_symbol", "_atom_site_occupancy")
    for tag in tags:
        if tag in items.values and items.loops.get(tag) != own:
            raise ValueError(f"{tag} stands in another loop than {COORDINATE_TAGS[0]}; join them")


def _refuse_what_is_not_quite_there(items: CifItems, labels: Sequence[str]) -> None:
    """ValueError where an atom is there in part, in one of several ways, as a dummy, or with others that are not."""
    occupancies = items.column("_atom_site_occupancy")
    if occupancies is not None and not WHOLE.issuperset(occupancies):
        known = [place for place, text in enumerate(occupancies) if text != "."]
        values = numbers_of([occupancies[place] for place in known], ("_atom_site_occupancy",))
        partial = [(place, value) for place, value in zip(known, values, strict=True) if value != 1]
        if partial:
            said = ", ".join(f"{labels[place][:20]} {value:g}" for place, value in partial[:5])
            raise ValueError(f"has partial occupancies ({said}{', ...' if len(partial) > 5 else ''}); order it first")
    for place, text in enumerate(items.column("_atom_site_attached_hydrogens") or []):
        if not re.fullmatch(r"[.?0]", text):
            raise ValueError(f"{labels[place][:40]} has {text[:10]} hydrogens without coordinates; add them")
    if "dum" in (items.column("_atom_site_calc_flag") or []):
        raise ValueError("has dummy atoms (_atom_site_calc_flag dum); remove them")
    groups = set(items.column("_atom_site_disorder_group") or []) - {".", "?"}
    if len(groups) > 1:
        raise ValueError(f"is disordered (groups {', '.join(sorted(groups)[:5])}); order it first")


@functools.cache
def _ranks() -> IntArray:
    """(119,) the place of each element in pymatgen's order of electronegativity; what has none comes last."""
    from pymatgen.core import Element

    elements = [Element.from_Z(z) for z in range(1, 119)]
    keys = {e.Z: (float(e._data.get("X") or np.inf), e.symbol) for e in elements}
    ranks = np.zeros(119, dtype=np.int64)
    for rank, z in enumerate(sorted(keys, key=lambda z: keys[z])):
        ranks[z] = rank
    return ranks
