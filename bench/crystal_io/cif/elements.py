"""Which element an atom site of a CIF is: from its type symbol, its label and what the file says elsewhere."""

from __future__ import annotations

import functools
import re

import gemmi

from bench.crystal_io.cif.blocks import CifItems
from bench.crystals import MAX_ATOMIC_NUMBER

MAX_SYMBOL = 20  # characters
HEAVY_HYDROGEN = "is deuterium or tritium, which is not taken for hydrogen; write H where it stands for it"
_CHARGE = r"(?:\d*\.?\d*[+-]|[+-]\d*\.?\d*)"
_TYPE = re.compile(rf"([A-Za-z]{{1,2}})\d*{_CHARGE}?\Z", re.ASCII)
_LETTERS = re.compile(r"[A-Za-z]+", re.ASCII)
_FORMULA_PART = re.compile(r"\s*([A-Z][a-z]?)(\d+(?:\.\d*)?|\.\d+)?(?=[\sA-Z,]|\Z)[\s,]*", re.ASCII)


def elements_of(items: CifItems, sites: int) -> list[int]:
    """(sites,) atomic numbers. ValueError naming a site that is no element, or that may be one of two."""
    types, labels = items.column("_atom_site_type_symbol"), items.column("_atom_site_label")
    if types is None and labels is None:
        raise ValueError("the atom sites have neither _atom_site_type_symbol nor _atom_site_label")
    if types is not None:
        numbers = [_BY_SYMBOL.get(symbol, 0) for symbol in types]
        if all(numbers):
            return numbers
    names = labels if labels is not None else types or []
    other: frozenset[str] | None = None
    found = []
    for place in range(sites):
        symbol = types[place] if types is not None else "."
        candidates = _of_type(symbol) if symbol not in (".", "?", "") else _of_label(names[place])
        if len(candidates) > 1:
            other = _elsewhere(items) if other is None else other
            candidates = _decided(candidates, other, symbol in (".", "?", ""))
        if len(candidates) != 1 or candidates[0] not in _BY_SYMBOL:
            raise ValueError(_complaint(names[place], symbol, candidates))
        found.append(_BY_SYMBOL[candidates[0]])
    return found


def _complaint(name: str, symbol: str, candidates: tuple[str, ...]) -> str:
    what = f"atom site {name[:40]!r}" + (f" of type {symbol[:40]!r}" if symbol not in (name, ".", "?", "") else "")
    if any(candidate in ("D", "T") for candidate in candidates):
        return f"{what} {HEAVY_HYDROGEN}"
    if candidates:
        return f"{what} may be {' or '.join(candidates)}; give _atom_site_type_symbol as {candidates[0]!r}"
    return f"{what} is no element"


@functools.lru_cache(maxsize=10_000)
def _of_type(symbol: str) -> tuple[str, ...]:
    """Elements that a type symbol may mean: "Fe", "Fe3+", "O2-", "FE"; "CO", in capitals, may be cobalt or C and O."""
    match = _TYPE.match(symbol[:MAX_SYMBOL])
    letters = match[1] if match is not None else ""
    element = letters.capitalize()
    if not _is_symbol(element) or letters not in (element, letters.upper(), letters.lower()):
        return ()
    if letters != element and letters.isupper() and all(letter in _BY_SYMBOL for letter in letters):
        return element, letters[0]
    return (element,)


@functools.lru_cache(maxsize=10_000)
def _of_label(label: str) -> tuple[str, ...]:
    """Elements that a label may begin with: "Na1", "Fe1A", "OW2"; "CA1", in capitals, may be calcium or a carbon A."""
    match = _LETTERS.match(label)
    if match is None:
        return ()
    letters = match[0]
    first, pair = letters[0].upper(), letters[:2].capitalize()
    if letters.islower():
        return (letters.capitalize(),) if len(letters) < 3 and _is_symbol(letters.capitalize()) else ()
    if letters[1:2].islower():
        return (pair,) if letters[0].isupper() and not letters[2:3].islower() and _is_symbol(pair) else ()
    if pair in _BY_SYMBOL and first not in _BY_SYMBOL:
        return (pair,)  # not tritium
    return tuple(dict.fromkeys(symbol for symbol in (pair, first) if _is_symbol(symbol)))


def _decided(candidates: tuple[str, ...], elsewhere: frozenset[str], by_label: bool) -> tuple[str, ...]:
    """Which of two elements it is: the one that the file names elsewhere.

    Where it names none, a label after the oxygen to which the atom is bound ("CO1", "HO2") is of its first letter.
    """
    named = tuple(symbol for symbol in candidates if symbol in elsewhere)
    if len(named) == 1:
        return named
    if by_label and not elsewhere and candidates[0][1:] == "o":
        return candidates[1:]
    return candidates


def _elsewhere(items: CifItems) -> frozenset[str]:
    """Elements of the formula, or else of the list of atom types."""
    formula = formula_sum(items)
    if formula:
        return frozenset(formula)
    listed = items.column("_atom_type_symbol") or []
    certain = [_of_type(symbol) for symbol in listed]
    return frozenset(symbols[0] for symbols in certain if len(symbols) == 1)


def formula_sum(items: CifItems) -> dict[str, float] | None:
    """Symbol -> how many, as `_chemical_formula_sum` has it; None where there is none or it is not understood."""
    text = items.one("_chemical_formula_sum")
    if text is None:
        return None
    counts: dict[str, float] = {}
    place = 0
    for part in _FORMULA_PART.finditer(text):
        if part.start() != place or not _is_symbol(part[1]):
            return None
        counts[part[1]] = counts.get(part[1], 0.0) + float(part[2] or 1)
        place = part.end()
    return counts if place == len(text) and counts else None


def symbol_of(number: int) -> str:
    """The symbol of an element."""
    return _SYMBOLS[number]


def _is_symbol(symbol: str) -> bool:
    return symbol in _BY_SYMBOL or symbol in ("D", "T")


_SYMBOLS = ("", *(str(gemmi.Element(z).name) for z in range(1, MAX_ATOMIC_NUMBER + 1)))
_BY_SYMBOL = {symbol: z for z, symbol in enumerate(_SYMBOLS) if symbol}
