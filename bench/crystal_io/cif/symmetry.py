"""Which symmetry operators may hold in a CIF: those that it lists, or those of the space group that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.arrays import FloatArray
from bench.crystal_io.cif.blocks import CifItems
from bench.crystal_io.cif.settings import (
    IDENTITY,
    MAX_OPERATORS,
    Operators,
    Setting,
    arrays,
    distinct,
    group_number,
    hall_operators,
    named_settings,
    numbered_settings,
    operator,
)

OPERATOR_TAGS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
NUMBER_TAGS = ("_space_group_it_number", "_symmetry_int_tables_number", "_symmetry_space_group_it_number")
HALL_TAGS = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
CODE_TAGS = ("_space_group_it_coordinate_system_code", "_symmetry_space_group_it_coordinate_system_code")
SYSTEM_TAGS = ("_space_group_crystal_system", "_symmetry_cell_setting")
NOT_OF_ATOMS = (  # magnetic and modulated structures
    *("_space_group_magn", "_space_group_symop_magn", "_magnetic_space_group", "_space_group_ssg"),
    *("_space_group_symop_ssg", "_cell_modulation_dimension", "_cell_wave_vector"),
)
LENGTH_TOLERANCE = 0.02  # relative, of a cell that a symmetry operator maps onto itself
COSINE_TOLERANCE = 0.035  # of its angles: 2 degrees at 90
REMEDY = "list the symmetry operators"


@dataclass(frozen=True)
class Symmetry:
    """What a CIF says of its symmetry. readings: operators that may hold. listed: those that the file gives itself.

    conflict: what contradicts what, where they are not all that the file says of its symmetry; "" where they are.
    """

    readings: tuple[Operators, ...]
    conflict: str = ""
    listed: tuple[Operators, ...] = ()


P1 = Symmetry((IDENTITY,))


def symmetry_of(items: CifItems, parameters: Sequence[float]) -> Symmetry:
    """The operators that may hold. ValueError where the file names a symmetry that is not understood, or unknown.

    parameters: (6,) lengths and angles of the cell. A file that says nothing at all of its symmetry lists all atoms.
    """
    tags = [tag for tag in items.values if tag.startswith(("_s", "_m", "_cell_m", "_cell_w"))]
    if other := next((tag for tag in tags if tag.startswith(NOT_OF_ATOMS)), None):
        raise ValueError(f"is magnetic or modulated ({other}); write the atoms of one plain cell")
    listed = [found for tag in OPERATOR_TAGS if (found := _operators(items, tag)) is not None]
    hall, code = items.one(*HALL_TAGS), items.one(*CODE_TAGS)
    number, symbols = _number(items), _symbols(items, tags)
    if listed == [IDENTITY] and number in (None, 1) and hall is None and symbols <= {"P 1", "P1"}:
        return P1
    if listed or hall is not None:
        return _explicit(listed, hall, symbols, number, code, parameters)
    if symbols or number is not None:
        return _by_name(symbols, number, code, parameters)
    unclear = [tag for tag in tags if tag.startswith(("_symmetry", "_space_group")) and tag not in SYSTEM_TAGS]
    system = (items.one(*SYSTEM_TAGS) or "triclinic").lower()
    if unclear or system != "triclinic":
        said = _as_written(items, unclear[0]) if unclear else f"the crystal system {system[:40]!r}"
        raise ValueError(f"has a symmetry that it does not tell ({said}); {REMEDY}, or 'P 1' where all atoms are there")
    return P1


def _explicit(
    listed: Sequence[Operators],
    hall: str | None,
    symbols: set[str],
    number: int | None,
    code: str | None,
    parameters: Sequence[float],
) -> Symmetry:
    """Operators that are listed or given by a Hall symbol, held against the symbol and number of the group.

    Where they differ, either may hold: the atoms may be all listed, or the operators not.
    """
    found = list(listed)
    try:
        found += [hall_operators(hall)] if hall is not None else []
    except ValueError:
        if not listed:
            raise
    explicit = distinct(found)
    numbers = [group_number(operators) for operators in explicit]
    if any(each is None for each in numbers) and not symbols and number is None:
        raise ValueError("the symmetry operators that it lists form no group; list all of them")
    named = [settings for symbol in sorted(symbols) if (settings := named_settings(symbol, None))]
    agree = len(explicit) == 1 and numbers[0] is not None
    agree = agree and number in (None, numbers[0])
    agree = agree and all(any(setting.number == numbers[0] for setting in settings) for settings in named)
    if agree:
        if not fits_cell(explicit[0], parameters):
            raise ValueError(_misfit("its symmetry operators", parameters))
        return Symmetry((explicit[0],), listed=(explicit[0],))
    said = [f"operators of group {each}" if each else "operators that form no group" for each in numbers]
    said += [f"the symbol {symbol[:40]!r}" for symbol in sorted(symbols)] + ([f"number {number}"] if number else [])
    others = [setting for settings in named for setting in settings if number in (None, setting.number)]
    if not named and number is not None:
        others = list(numbered_settings(number, code))
    left_out = [
        setting.operators for setting in _usual(others, parameters) if set(explicit[0]) <= set(setting.operators)
    ]
    whole = [operators for operators, each in zip(explicit, numbers, strict=True) if each is not None]
    return Symmetry(distinct([*whole, *left_out]), f"lists {' and '.join(dict.fromkeys(said))}", tuple(whole))


def _by_name(symbols: set[str], number: int | None, code: str | None, parameters: Sequence[float]) -> Symmetry:
    """Operators of the group that a symbol or number names."""
    conflict, found = "", list(numbered_settings(number, code)) if number is not None else []
    said = f"group {number}"
    if symbols:
        named = [named_settings(symbol, code) for symbol in sorted(symbols)]
        said = " and ".join(repr(symbol[:40]) for symbol in sorted(symbols))
        if not any(named):
            raise ValueError(f"the space group {said} is not known; {REMEDY}")
        candidates = [setting for settings in named for setting in settings]
        alike = [s for s in candidates if all(s in settings for settings in named if settings)]
        alike = [s for s in alike if number in (None, s.number)]
        if not alike:
            conflict = f"names the space group {said}" + (f" and number {number}" if number is not None else "")
        found = list(dict.fromkeys(alike or [*candidates, *found]))
    if not found:
        raise ValueError(f"the setting {code!r} of {said} is not known; {REMEDY}")
    usual = _usual(found, parameters)
    if not usual:
        raise ValueError(_misfit(f"the space group {said}", parameters))
    if len(usual) > 1 and not conflict:
        choices = " or ".join(sorted({f"{s.symbol}:{s.extension.upper()}" for s in usual}))
        conflict = f"does not say which setting it is of {said}: {choices}"
    return Symmetry(distinct(setting.operators for setting in usual), conflict)


def _usual(found: Iterable[Setting], parameters: Sequence[float]) -> list[Setting]:
    """Of each group the settings that fit the cell, of the first symbol (axis b before c) in all its extensions."""
    first: dict[int, str] = {}
    fitting = [setting for setting in found if fits_cell(setting.operators, parameters)]
    return [s for s in fitting if first.setdefault(s.number, s.symbol) == s.symbol]


def _misfit(what: str, parameters: Sequence[float]) -> str:
    return f"{what} do not fit the cell ({', '.join(f'{value:.4g}' for value in parameters)}); correct one of them"


def fits_cell(operators: Operators, parameters: Sequence[float]) -> bool:
    """Whether every operator maps the cell of these lengths and angles onto itself."""
    if len(operators) == 1:
        return True
    rotations, _ = arrays(operators)
    metric = _metric(parameters)
    mapped = np.einsum("nji,jk,nkl->nil", rotations, metric, rotations)
    lengths = np.sqrt(np.einsum("nii->ni", mapped))
    before = np.sqrt(np.diag(metric))
    cosines = mapped / (lengths[:, :, None] * lengths[:, None, :])
    return bool(
        (np.abs(lengths / before - 1) < LENGTH_TOLERANCE).all()
        and (np.abs(cosines - metric / np.outer(before, before)) < COSINE_TOLERANCE).all()
    )


def _metric(parameters: Sequence[float]) -> FloatArray:
    lengths = np.array(parameters[:3])
    alpha, beta, gamma = np.cos(np.radians(parameters[3:]))
    cosines = np.array([[1.0, gamma, beta], [gamma, 1.0, alpha], [beta, alpha, 1.0]])
    return np.asarray(np.outer(lengths, lengths) * cosines)


def _number(items: CifItems) -> int | None:
    """The number of the group. ValueError where two are given, or it is none of 230."""
    given = {text for tag in NUMBER_TAGS if (text := items.one(tag)) is not None}
    if not given:
        return None
    text = given.pop()
    if given or not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not 1 <= int(text) <= 230:
        said = " and ".join(sorted({text[:40], *(other[:40] for other in given)}))
        raise ValueError(f"the number of the space group is {said}, not one of 1 to 230; correct or remove it")
    return int(text)


def _as_written(items: CifItems, tag: str) -> str:
    """A tag with its value."""
    column = items.column(tag) or [""]
    return f"{tag} is {column[0][:40]!r}"


def _symbols(items: CifItems, tags: Iterable[str]) -> set[str]:
    """The Hermann-Mauguin symbols that a file gives."""
    found = set()
    for tag in tags:
        if "name_h-m" in tag and "patterson" not in tag and not tag.endswith(("_ref", "_description")):
            symbol = items.one(tag)
            if symbol is not None:
                found.add(" ".join(symbol.split()))
    return found


def _operators(items: CifItems, tag: str) -> Operators | None:
    """The operators listed below a tag, None where there are none. ValueError naming one that is none."""
    column = items.column(tag)
    if column is None or all(text in (".", "?", "") for text in column):
        return None
    if column == ["x, y, z"] or column == ["x,y,z"]:
        return IDENTITY
    if not any(text.count(",") == 2 for text in column):
        column = _joined(items, tag)
    if len(column) > 2 * MAX_OPERATORS:
        raise ValueError(f"{len(column)} symmetry operators; no space group has more than {MAX_OPERATORS}")
    return tuple(dict.fromkeys(map(operator, column)))


def _joined(items: CifItems, tag: str) -> list[str]:
    """Operators that stand there with blanks and without quotes, so that each is three values of its loop."""
    number = items.loops.get(tag)
    columns = [items.column(other) or [] for other, loop in items.loops.items() if loop == number]
    values = [value for row in zip(*columns, strict=True) for value in row] if columns else []
    width = 2 + len(columns)  # of an operator with what stands before it
    rows = [values[start : start + width] for start in range(0, len(values), width)]
    if len(columns) > 2 or not all(_is_row(row, width) for row in rows) or not rows:
        raise ValueError("symmetry operators with blanks stand there without quotes; put each in quotes")
    return ["".join(row[-3:]) for row in rows]


def _is_row(row: Sequence[str], width: int) -> bool:
    commas = [part.endswith(",") for part in row[-3:]]
    return len(row) == width and commas == [True, True, False] and (width == 3 or row[0].isdecimal())
