"""Space groups in all their settings, and what the symbols of a CIF name: gemmi's table, and spglib's full symbols."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import gemmi
import numpy as np
import spglib

from bench.arrays import FloatArray, IntArray

IDENTITY = ("x,y,z",)
MAX_OPERATORS = 192  # of any space group, with its centring
MAX_SYMBOL = 80  # characters
TABULATED = 530  # of the International Tables
MONOCLINIC = range(3, 16)
ORIGINS = {"s": "1", "z": "2"}  # of the ICSD: the site's origin, and that on a centre

Operators = tuple[str, ...]  # gemmi's triplets, all different, each translation in [0, 1)


def distinct(found: Iterable[Operators]) -> tuple[Operators, ...]:
    """Those that differ in more than their order."""
    first: dict[frozenset[str], Operators] = {}
    for operators in found:
        first.setdefault(frozenset(operators), operators)
    return tuple(first.values())


@dataclass(frozen=True)
class Setting:
    """A space group in one of its settings. extension: origin choice 1 or 2, axes H or R, or nothing."""

    number: int
    symbol: str
    extension: str
    qualifier: str
    hall: str
    standard: bool

    @property
    def operators(self) -> Operators:
        """All of them, with centring."""
        return hall_operators(self.hall)


@functools.cache
def settings() -> tuple[Setting, ...]:
    """All that gemmi knows: 530 of the International Tables, and some larger cells."""
    return tuple(
        Setting(
            group.number,
            group.hm,
            group.ext.strip("\0").lower(),
            group.qualifier.lower(),
            group.hall,
            group.is_reference_setting(),
        )
        for group in gemmi.spacegroup_table()
    )


@functools.lru_cache(maxsize=1000)
def hall_operators(hall: str) -> Operators:
    """The operators of a Hall symbol. ValueError where it is none."""
    if len(hall) > MAX_SYMBOL:
        raise ValueError(f"the Hall symbol {hall[:40]!r} is not known")
    try:
        group = gemmi.symops_from_hall(hall.replace("_", " "))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the Hall symbol {hall!r} is not known") from error
    return tuple(operator.wrap().triplet() for operator in group)


@functools.lru_cache(maxsize=1000)
def named_settings(symbol: str, code: str | None) -> tuple[Setting, ...]:
    """Settings that a Hermann-Mauguin symbol may name, the more usual ones first; none where it is unknown.

    The symbol is old or new, short or full, with blanks or without; ":2", ":R" or the ICSD's S, Z, H or R behind it
    choose among origins and axes, as does the code of `_space_group_IT_coordinate_system_code`.
    """
    plain = _plain(re.sub(r"\s\(([12hrsz])\)\Z", r":\1", symbol.strip().lower()))
    match = re.match(r"(.+?)(?::([-\w]+)|([hrsz]))\Z", plain)
    parts = [(plain, ""), *([(match[1], match[2] or match[3])] if match is not None else [])]
    found: tuple[Setting, ...] = ()
    for base, suffix in parts:
        found = found or _chosen(_table().get(base, ()), suffix)
    for base, suffix in reversed(parts):
        found = found or _chosen(_by_gemmi(base), suffix)
    return _chosen(found, code.lower()) if code else found


def _by_gemmi(plain: str) -> tuple[Setting, ...]:
    """Of more old and new names: Fm3m, Cmce."""
    group = gemmi.find_spacegroup_by_name(plain) if ":" not in plain else None
    return () if group is None else tuple(setting for setting in settings() if setting.symbol == group.hm)


def numbered_settings(number: int, code: str | None) -> tuple[Setting, ...]:
    """The standard settings of a group: both origins where there are two, both axes of a rhombohedral one."""
    of_number = [setting for setting in settings() if setting.number == number]
    if code:
        return _chosen(of_number, code.lower())
    symbols = {setting.symbol for setting in of_number if setting.standard}
    return tuple(setting for setting in of_number if setting.symbol in symbols)


def _chosen(found: Iterable[Setting], suffix: str) -> tuple[Setting, ...]:
    wanted = ORIGINS.get(suffix, suffix)
    return tuple(setting for setting in found if not wanted or wanted in (setting.extension, setting.qualifier))


def _plain(symbol: str) -> str:
    """A symbol as the table has it: small letters, no blanks; "21" for 2_1, 2(1)."""
    return re.sub(r"\((\d)\)", r"\1", re.sub(r"[\s_]", "", symbol[:MAX_SYMBOL].lower()))


@functools.cache
def _table() -> dict[str, tuple[Setting, ...]]:
    """Symbol, plain -> the settings that it may name."""
    found: dict[str, dict[Setting, None]] = {}

    def add(symbol: str, setting: Setting) -> None:
        for name in {symbol, symbol.replace("-3", "3") if setting.number > 194 else symbol}:
            found.setdefault(_plain(name), {})[setting] = None

    for place, setting in enumerate(settings()):
        add(setting.symbol, setting)
        if setting.number in MONOCLINIC and place < TABULATED:
            add(re.sub(r" 1(?= |\Z)", "", setting.symbol), setting)
    by_operators = {frozenset(setting.operators): setting for setting in reversed(settings())}
    for hall_number in range(1, TABULATED + 1):
        known = _quietly(spglib.get_spacegroup_type, hall_number)
        if known is not None and "e" not in known.international_full:  # which gemmi knows, and settings share
            operators = frozenset(hall_operators(known.hall_symbol.replace("=", '"')))
            if operators in by_operators:
                add(known.international_full, by_operators[operators])
    return {name: tuple(chosen) for name, chosen in found.items()}


@functools.lru_cache(maxsize=1000)
def arrays(operators: Operators) -> tuple[FloatArray, FloatArray]:
    """Rotations (M, 3, 3) and translations (M, 3) of operators on fractional coordinates."""
    ordered = [gemmi.Op(text) for text in operators]
    rotations = np.array([op.rot for op in ordered], dtype=np.float64) / gemmi.Op.DEN
    return rotations, np.array([op.tran for op in ordered], dtype=np.float64) / gemmi.Op.DEN


@functools.lru_cache(maxsize=1000)
def group_number(operators: Operators) -> int | None:
    """The number of the space group that they form, in whatever setting; None where they form none."""
    rotations, translations = arrays(operators)
    if not _is_closed(rotations, translations):
        return None
    found = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(text) for text in operators]))
    if found:
        return int(found.number)
    known = _quietly(spglib.get_spacegroup_type_from_symmetry, np.rint(rotations).astype(np.intc), translations)
    return int(known.number) if known else None


def _quietly(ask: Callable[..., spglib.SpaceGroupType | None], *about: Any) -> spglib.SpaceGroupType | None:
    """What spglib says, without its warning that a later version will raise where it now says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return ask(*about)


def _is_closed(rotations: FloatArray, translations: FloatArray) -> bool:
    """Whether the product of any two operators is one of them."""
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 9)
    shifts = (np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]).reshape(-1, 3)

    def codes(rotation: FloatArray, shift: FloatArray) -> IntArray:
        digits = np.concatenate([np.rint(rotation) + 1, np.rint(shift * gemmi.Op.DEN) % gemmi.Op.DEN], axis=1)
        return np.asarray(digits.astype(np.int64) @ (gemmi.Op.DEN ** np.arange(12, dtype=np.int64)))

    return bool(np.isin(codes(products, shifts), codes(rotations.reshape(-1, 9), translations)).all())


_TRANSLATION = re.compile(r"(?<![\w./])(\d+\.?\d*|\.\d+)(?:/(\d+))?(?![\w./])", re.ASCII)
_TRIPLET = re.compile(r"[xyzXYZ0-9+\-./, \t]{5,100}\Z", re.ASCII)


@functools.lru_cache(maxsize=10_000)
def operator(text: str) -> str:
    """An operator such as "x, 1/2-y, z+.5" as gemmi writes it. ValueError where it is none of a crystal's."""
    if not _TRIPLET.match(text):
        raise ValueError(f"{text[:60]!r} is no symmetry operator")
    plain = re.sub(r"[ \t]", "", text)
    try:
        op = gemmi.Op(_TRANSLATION.sub(_as_fraction, plain)).wrap()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{text[:60]!r} is no symmetry operator") from error
    if abs(op.det_rot()) != gemmi.Op.DEN**3:
        raise ValueError(f"{text[:60]!r} is no symmetry operator: it does not keep volumes")
    return str(op.triplet())


def _as_fraction(found: re.Match[str]) -> str:
    """A translation as a fraction of 24; one written with decimals is that of which they are the first ones."""
    if len(found[0]) > 12 or (found[2] is not None and int(found[2]) == 0):
        raise ValueError(found[0])
    value = Fraction(found[1]) / int(found[2] or 1)
    nearest = Fraction(round(value * gemmi.Op.DEN), gemmi.Op.DEN)
    decimals = len(found[1].partition(".")[2])
    if abs(value - nearest) * 10**decimals >= 1 if found[2] is None and decimals else value != nearest:
        raise ValueError(found[0])
    return f"{nearest.numerator}/{nearest.denominator}"
