"""Reading crystals from texts, one format at a time, as a stream. Nothing here runs code that a text carries."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

from bench.crystal_io.cif import only_block
from bench.crystal_io.streams import (
    MAX_ATOMS,
    MAX_JSON_CHARACTERS,
    CifText,
    Missing,
    Place,
    bounded_lines,
)
from bench.crystals import Crystals, FilteredCrystals, filter_crystals
from bench.errors import one_line

MAX_XYZ_LINE = 2**16  # characters; the line above the atoms may carry a few hundred numbers
MAX_XYZ_COLUMNS = 100  # of an atom
_JSON_CHUNK = 2**16  # characters; most structures of a list fit
_SPACE = re.compile(r"[ \t\n\r]*")
_LATTICE = re.compile(r"""(?:^|\s)lattice\s*=\s*(?:"([^"]*)"|'([^']*)'|\{([^}]*)\}|\[([^\]]*)\])""", re.IGNORECASE)
_PROPERTIES = re.compile(r"""(?:^|\s)properties\s*=\s*["']?([^\s"']+)""", re.IGNORECASE)


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
    return _ase_frame([lines.pop() for _ in range(num_atoms + 2)])


def _ase_frame(lines: list[str]) -> Crystals | Missing:
    """A crystal from the lines of one frame. Of what stands above the atoms ASE only sees cell and columns."""
    from ase.io.extxyz import read_extxyz as read_frames

    lattice, columns = _LATTICE.search(lines[1]), _PROPERTIES.search(lines[1])
    if lattice is None:
        return Missing("has no Lattice")
    header = f'Lattice="{next(filter(None, lattice.groups()), "")}"'
    if columns is not None:
        widths = columns[1].split(":")[2::3]
        if not all(map(_is_count, widths)) or sum(map(int, widths)) > MAX_XYZ_COLUMNS:
            return Missing(f"has Properties that are no columns of an atom: {columns[1][:80]}")
        header += f" Properties={columns[1]}"
    try:
        atoms = next(read_frames(io.StringIO("\n".join([lines[0], header, *lines[2:]]) + "\n"), index=0))
        if atoms.cell.rank < 3:
            return Missing("has no Lattice of three independent vectors")
        coords = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
        return only(filter_crystals([len(atoms)], atoms.numbers, coords, atoms.cell.array))
    except Exception as error:  # a parser fed foreign text raises anything; it becomes the reason
        return Missing(one_line(error))


def read_json(text: TextIO, name: str) -> Iterator[Place]:
    """Pymatgen's JSON of one structure or of a list of them. ValueError where the text is neither."""
    ahead = _JsonAhead(text)
    if ahead.peek() == "[":
        yield from ((f"structure {number}", pymatgen_dict(entry)) for number, entry in enumerate(_entries(ahead)))
    else:
        yield name, pymatgen_dict(ahead.value("", at_end=True))


def _entries(ahead: _JsonAhead) -> Iterator[Any]:
    """The entries of a JSON list, one in memory at a time."""
    ahead.place += 1
    number = 0
    following = ahead.peek()
    while following != "]":
        yield ahead.value(f"structure {number}: ")
        following = ahead.peek()
        if following not in (",", "]"):
            raise ValueError(f"not JSON (neither , nor ] behind structure {number})")
        ahead.place += following == ","
        number += 1
    ahead.place += 1
    if ahead.peek():
        raise ValueError("not JSON (text behind the end of the list)")


class _JsonAhead:
    """A JSON text of which only the value that comes next is in memory."""

    def __init__(self, text: TextIO) -> None:
        self._rest = text
        self._decoder = json.JSONDecoder()
        self._text = ""
        self.place = 0  # in what is in memory

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            self.place = _SPACE.match(self._text, self.place).end()  # type: ignore[union-attr]  # matches nothing too
            if self.place < len(self._text):
                return self._text[self.place]
            if not self._more(_JSON_CHUNK):
                return ""

    def value(self, what: str, at_end: bool = False) -> Any:
        """The next value. at_end: the text ends behind it. ValueError, beginning with `what`, where there is none."""
        self.peek()
        while True:
            complete, recursion = False, False
            try:
                value, end = self._decoder.raw_decode(self._text, self.place)
                complete = at_end or end < len(self._text)
                fault = "its list has no end"
            except ValueError as error:
                fault = one_line(error)
            except RecursionError:
                fault, recursion = "nested too deeply", True
            if complete:
                self.place = end
                if at_end and self.peek():
                    raise ValueError(f"{what}not JSON (text behind its end)")
                return value
            ahead = len(self._text) - self.place
            if ahead > MAX_JSON_CHARACTERS:
                raise ValueError(f"{what}more than {MAX_JSON_CHARACTERS} characters, or not JSON ({fault})")
            # Perhaps the value goes on. Twice as much each time keeps the work in proportion to the text.
            if recursion or not self._more(max(ahead, _JSON_CHUNK)):
                raise ValueError(f"{what}not JSON ({fault})")

    def _more(self, size: int) -> bool:
        more = self._rest.read(size)
        self._text, self.place = self._text[self.place :] + more, 0
        return bool(more)


def pymatgen_dict(content: Any) -> Crystals | Missing:
    """The crystal of a dictionary as pymatgen's Structure.as_dict gives it.

    Read by hand: pymatgen's own reader imports and calls whatever class the text names in its properties.
    """
    from pymatgen.core import Element

    try:
        matrix = np.array(content["lattice"]["matrix"], dtype=np.float64).reshape(3, 3)
        sites = content["sites"]
        if len(sites) > MAX_ATOMS:
            return Missing(f"has {len(sites)} atoms; at most {MAX_ATOMS} are read")
        numbers, coords = [], []
        for number, site in enumerate(sites):
            species = site["species"]
            if len(species) != 1 or species[0].get("occu", 1) != 1:
                return Missing(f"site {number} has partial occupancies; order it first")
            numbers.append(Element(species[0]["element"]).Z)
            coords.append(site["abc"] if site.get("abc") is not None else np.linalg.solve(matrix.T, site["xyz"]))
        return only(filter_crystals([len(numbers)], numbers, np.array(coords, dtype=np.float64), matrix))
    except ValueError as error:  # also numpy's LinAlgError
        return Missing(one_line(error))
    except Exception as error:  # a dictionary of anything
        return Missing(f"not a pymatgen structure ({one_line(error)})")


def structure_text(text: str | None) -> Crystals | CifText | Missing:
    """What a table's cell holds: pymatgen's JSON where it starts with a brace, else a CIF text."""
    if text is None or not text.strip():
        return Missing("is empty")
    if len(text) > MAX_JSON_CHARACTERS:
        return Missing(f"{len(text)} characters; at most {MAX_JSON_CHARACTERS} are read")
    if text.lstrip().startswith("{"):
        try:
            return pymatgen_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            return Missing(f"not JSON ({one_line(error)})")
    return only_block(text)


def structure_column(columns: list[str]) -> str:
    """Which of a table's columns holds the crystals."""
    for name in ("cif", "structure"):
        if name in columns:
            return name
    raise ValueError(f"no column named cif or structure among {', '.join(columns)[:300] or 'none'}")


def read_csv(text: TextIO, name: str) -> Iterator[Place]:
    """The `cif` or `structure` column of a CSV text, one row a crystal. ValueError where it is no such table."""
    lines = _RowLines(text)
    rows = csv.reader(lines)
    header: list[str] | None = None
    place = number = 0
    limit = csv.field_size_limit()
    while True:
        lines.characters = 0
        csv.field_size_limit(MAX_JSON_CHARACTERS)  # a cell of 300 atoms passes the default of 128 KiB
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"not a CSV file (line {rows.line_num}: {error})") from error
        finally:
            csv.field_size_limit(limit)  # it is the process's: never changed while others run
        if row is None:
            return
        if header is None:
            header = [column.strip() for column in row]
            place = header.index(structure_column(header))
        elif row:
            has_it = place < len(row)
            yield (
                f"row {number}",
                structure_text(row[place]) if has_it else Missing(f"has {len(row)} fields of {len(header)}"),
            )
            number += 1


class _RowLines:
    """The lines of a CSV text. ValueError where a row is longer than any crystal's. characters: since it was set."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(2 * MAX_JSON_CHARACTERS)
        self.characters += len(line)
        if self.characters >= 2 * MAX_JSON_CHARACTERS:
            raise ValueError(f"a row of more than {2 * MAX_JSON_CHARACTERS} characters, or a quote that does not end")
        if not line:
            raise StopIteration
        return line


def only(filtered: FilteredCrystals) -> Crystals | Missing:
    """The one crystal asked for, or why it is not there."""
    return Missing(filtered.reasons[0]) if filtered.reasons else filtered.crystals
