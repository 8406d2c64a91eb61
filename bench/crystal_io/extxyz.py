"""Extended XYZ: every frame of a text, as a stream."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from typing import TextIO

from bench.crystal_io.cells import fractional
from bench.crystal_io.cif.elements import HEAVY_HYDROGEN
from bench.crystal_io.streams import MAX_ATOMS, MAX_JSON_CHARACTERS, Missing, Place, bounded_lines, only
from bench.crystals import Crystals, filter_crystals
from bench.errors import one_line

MAX_XYZ_LINE = 2**16  # characters; the line above the atoms may carry a few hundred numbers
MAX_XYZ_COLUMNS = 100  # of an atom
DEFAULT_COLUMNS = "species:S:1:pos:R:3"
# One item of the line above the atoms: a key with its value, or either alone. A quoted value is one item, whatever
# stands in it. ASE's own parser keeps the last of two equal keys and says nothing.
_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{[^{}]*\}|\[[^\[\]]*\]"""
_ITEM = re.compile(rf"(?:([^\s=\"'{{}}\[\]]+)\s*=\s*)?({_QUOTED}|[^\s=\"'][^\s=\"]*)")
_REAL = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf)\Z", re.ASCII | re.IGNORECASE)
_UNIT = re.compile(r"(?:(?:length|pos|cell|lattice|coord|dist)[a-z]*_?)?units?\Z")
_OTHER_LENGTH = re.compile(r"\b(bohr|a\.?u\b|atomic|nm|nano|pm|pico|met(er|re))", re.IGNORECASE)
_TRUE, _FALSE = ("t", "true", "1"), ("f", "false", "0")


def read_extxyz(text: TextIO, name: str) -> Iterator[Place]:
    """Every frame of an extended XYZ text. After a frame that is cut or miscounted it goes on at the next header."""
    lines = _Lines(text)
    prefix = f"{name} " if name else ""
    frame = 0
    while lines.skip_empty():
        begin = lines.number
        entry = _frame(lines)
        if lines.number == begin:
            lines.skip_to_frame()
        yield f"{prefix}frame {frame}", entry
        frame += 1


class _Lines:
    """Lines of an extended XYZ text with a look ahead at those that a frame needs."""

    def __init__(self, text: TextIO) -> None:
        self._rest = bounded_lines(text, MAX_XYZ_LINE)
        self._ahead: deque[str] = deque()
        self.number = 1  # of the next line

    def peek(self, place: int) -> str | None:
        """The line that many behind the next one; None behind the last."""
        while len(self._ahead) <= place:
            line = next(self._rest, None)
            if line is None:
                return None
            self._ahead.append(line)
        return self._ahead[place]

    def pop(self) -> str:
        """The next line."""
        self.number += 1
        return self._ahead.popleft()

    def skip_empty(self) -> bool:
        """Passes over empty lines; whether another follows."""
        while (line := self.peek(0)) is not None and not line.strip():
            self.pop()
        return line is not None

    def starts_frame(self, place: int) -> bool:
        """Whether a frame begins that many lines behind the next one."""
        count, header = self.peek(place), self.peek(place + 1)
        return count is not None and _is_count(count.strip()) and header is not None and "lattice=" in header.lower()

    def skip_to_frame(self) -> None:
        """Passes over the next line and all that begin no frame."""
        while self.peek(0) is not None:
            self.pop()
            if self.starts_frame(0):
                return


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _frame(lines: _Lines) -> Crystals | Missing:
    """The frame that begins at the next line, which is passed over where it is whole."""
    count = (lines.peek(0) or "").strip()
    where = f"line {lines.number}: the frame"
    if not _is_count(count):
        return Missing(f"{where} starts with {count[:40]!r} instead of a number of atoms")
    num_atoms = int(count)
    if num_atoms > MAX_ATOMS:
        return Missing(f"{where} has {num_atoms} atoms; at most {MAX_ATOMS} are read")
    characters = 0
    for place in range(1, num_atoms + 2):
        line = lines.peek(place)
        if line is None or lines.starts_frame(place):
            return Missing(f"{where} is cut short")
        characters += len(line)
        if len(line) > MAX_XYZ_LINE or characters > MAX_JSON_CHARACTERS:
            return Missing(f"{where} has more text than an atom needs by line {lines.number + place}")
    following = lines.peek(num_atoms + 2)
    entry = _ase_frame([lines.pop() for _ in range(num_atoms + 2)], following)
    if isinstance(entry, _TooFewAtoms):
        lines.skip_to_frame()
    return entry


class _TooFewAtoms(Missing):
    """An atom stands behind the last one that a frame's number of atoms lets it have."""


def _ase_frame(lines: list[str], following: str | None) -> Crystals | Missing:
    """A crystal from the lines of one frame. Of what stands above the atoms ASE only sees cell and columns.

    following: the line behind the frame, None at the end of the text.
    """
    from ase.io.extxyz import read_extxyz as read_frames

    try:
        items = _header(lines[1])
        columns = _columns(items.get("properties", DEFAULT_COLUMNS))
        if following is not None and _fault_of_columns(columns, following.split(), "properties" in items) is None:
            return _TooFewAtoms(f"has {lines[0].strip()} atoms by its first line, but more follow: {following[:60]!r}")
        if "lattice" not in items:
            return Missing("has no Lattice")
        fault = _not_periodic(items.get("pbc")) or _other_unit(items) or _fault_of_lattice(items["lattice"])
        fault = fault or _fault_of_atoms(columns, lines[2:], "properties" in items)
        if fault is not None:
            return Missing(fault)
        described = ":".join(f"{name}:{kind}:{stop - start}" for name, (kind, start, stop) in columns.items())
        header = f'Lattice="{items["lattice"]}" Properties={described}'
        atoms = next(read_frames(io.StringIO("\n".join([lines[0], header, *lines[2:]]) + "\n"), index=0))
        coords = fractional(atoms.positions, atoms.cell.array)
        return only(filter_crystals([len(atoms)], atoms.numbers, coords, atoms.cell.array))
    except KeyError as error:  # ASE's, of a symbol
        return Missing(f"no element is called {error}")
    except Exception as error:  # a parser fed foreign text raises anything; it becomes the reason
        return Missing(one_line(error))


def _header(line: str) -> dict[str, str]:
    """The items of the line above the atoms, by names in small letters.

    ValueError where one stands twice, or where it cannot be told where one ends.
    """
    items: dict[str, str] = {}
    if left := _ITEM.sub(" ", line).split():
        raise ValueError(f"has {left[0][:20]!r} above the atoms where no value begins or ends; put texts in quotes")
    for key, value in _ITEM.findall(line):
        name = key.lower()
        if name in items and name in ("lattice", "properties", "pbc"):
            raise ValueError(f"has {key} twice; leave one")
        items[name] = value[1:-1].strip() if value[0] in "\"'{[" else value
    return items


Columns = dict[str, tuple[str, int, int]]  # name -> kind, first and behind its last column


def _columns(properties: str) -> Columns:
    """The columns of an atom. ValueError where they are none, or hold no positions or no elements."""
    parts = properties.split(":")
    names, kinds, widths = parts[::3], parts[1::3], parts[2::3]
    sound = len(parts) % 3 == 0 and all(map(_is_count, widths)) and len(set(names)) == len(names)
    if not sound or sum(map(int, widths)) > MAX_XYZ_COLUMNS:
        raise ValueError(f"has Properties that are no columns of an atom: {properties[:80]}")
    columns: Columns = {}
    stop = 0
    for name, kind, width in zip(names, kinds, widths, strict=True):
        start, stop = stop, stop + int(width)
        columns[name] = (kind.upper(), start, stop)
    kind, start, stop = columns.get("pos", ("", 0, 0))
    if kind != "R" or stop - start != 3:
        raise ValueError(f"has no column pos:R:3 of Cartesian positions among its Properties ({properties[:80]})")
    if "species" not in columns and "Z" not in columns:
        raise ValueError(f"has no column species or Z among its Properties ({properties[:80]})")
    if wide := next(
        (name for name in ("species", "Z") if name in columns and columns[name][2] - columns[name][1] != 1), None
    ):
        raise ValueError(f"{wide} is not one column by its Properties ({properties[:80]})")
    return columns


def _not_periodic(pbc: str | None) -> str | None:
    """Why a frame is no crystal by its pbc; None where it is periodic in all directions or says nothing."""
    if pbc is None:
        return None
    flags = pbc.replace(",", " ").lower().split()
    if len(flags) not in (1, 3) or not all(flag in (*_TRUE, *_FALSE) for flag in flags):
        return f'pbc="{pbc[:40]}" is not three of T and F'
    if any(flag in _FALSE for flag in flags):
        return f'pbc="{pbc[:40]}": not periodic in all directions, so no crystal; write pbc="T T T" if it is one'
    return None


def _other_unit(items: dict[str, str]) -> str | None:
    """Why lengths are not in A, where the line above the atoms names another unit."""
    for name, value in items.items():
        if _UNIT.match(name) and _OTHER_LENGTH.search(value):
            return f"{name}={value[:40]}: only lengths in Angstrom are read; convert positions and Lattice"
    return None


def _fault_of_lattice(text: str) -> str | None:
    values = text.replace(",", " ").split()
    if len(values) != 9 or not all(map(_REAL.match, values)):
        return f'Lattice="{text[:80]}" is not nine numbers, three vectors one after the other'
    return None


def _fault_of_atoms(columns: Columns, lines: list[str], exactly: bool) -> str | None:
    """What is wrong with the columns or elements of a frame's atoms that ASE would not see."""
    for number, line in enumerate(lines):
        fields = line.split()
        fault = _fault_of_columns(columns, fields, exactly) or _fault_of_element(columns, fields)
        if fault is not None:
            return f"atom {number}: {fault}"
    return None


def _fault_of_columns(columns: Columns, fields: list[str], exactly: bool) -> str | None:
    """How an atom differs from its columns. exactly: whether it may not have more, as where Properties names them."""
    width = max(stop for _, _, stop in columns.values())
    if len(fields) < width or (exactly and len(fields) > width):
        return f"has {len(fields)} columns, and Properties names {width}"
    start = columns["pos"][1]
    wrong = next((field for field in fields[start : start + 3] if not _REAL.match(field)), None)
    return None if wrong is None else f"a position is {wrong[:40]!r}, not a number"


def _fault_of_element(columns: Columns, fields: list[str]) -> str | None:
    """What is wrong with the element of an atom that ASE would not see."""
    from ase.data import atomic_numbers

    if "species" not in columns:
        return None
    symbol, of_number = fields[columns["species"][1]], columns.get("Z")
    if symbol not in atomic_numbers and _of_two_elements(symbol):
        return f"{symbol!r} may be {symbol.capitalize()} or {symbol[0]} and {symbol[1]}"
    if symbol.upper() in ("D", "T"):
        return f"{symbol} {HEAVY_HYDROGEN}"
    if of_number is not None and fields[of_number[1]] != str(atomic_numbers.get(symbol)):
        return f"is {symbol} by its species and {fields[of_number[1]]} by its Z"
    return None


def _of_two_elements(symbol: str) -> bool:
    """Whether capitals may be one symbol or two (CO, SI): ASE takes them for one whatever they mean."""
    from ase.data import atomic_numbers

    return len(symbol) == 2 and symbol.isupper() and all(letter in atomic_numbers for letter in symbol)
