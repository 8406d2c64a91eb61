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

from bench.crystal_io.streams import (
    MAX_ATOMS,
    MAX_CIF_CHARACTERS,
    MAX_JSON_CHARACTERS,
    CifText,
    Missing,
    Place,
    bounded_lines,
    cif_text,
)
from bench.crystals import Crystals, FilteredCrystals, filter_crystals
from bench.errors import one_line

MAX_XYZ_LINE = 2**16  # characters; the line above the atoms may carry a few hundred numbers
MAX_XYZ_COLUMNS = 100  # of an atom
_JSON_CHUNK = 2**16  # characters; most structures of a list fit
_SPACE = re.compile(r"[ \t\n\r]*")
_LATTICE = re.compile(r"""(?:^|\s)lattice\s*=\s*(?:"([^"]*)"|'([^']*)'|\{([^}]*)\}|\[([^\]]*)\])""", re.IGNORECASE)
_PROPERTIES = re.compile(r"""(?:^|\s)properties\s*=\s*["']?([^\s"']+)""", re.IGNORECASE)


def read_cif(text: TextIO, name: str) -> Iterator[Place]:
    """The blocks of a CIF text, those without a cell (publication data) left out where others have one."""
    first: CifText | Missing | None = None  # kept back: its name depends on whether a second one follows
    nothing: CifText | Missing = Missing("is empty")
    number = 0
    for block, has_cell in _blocks(text):
        if not has_cell:
            nothing = block
            continue
        if number == 1 and first is not None:
            yield f"{name} block 0", first
        if number:
            yield f"{name} block {number}", block
        else:
            first = block
        number += 1
    if number <= 1:
        yield name, first or nothing


def _blocks(text: TextIO) -> Iterator[tuple[CifText | Missing, bool]]:
    """Each data block, or what stands before the first, and whether it has a cell."""
    lines: list[str] = []
    length, has_cell = 0, False
    for line in bounded_lines(text, MAX_CIF_CHARACTERS):
        if line.lstrip().lower().startswith("data_"):
            if lines:
                yield _block(lines, length), has_cell
            lines, length, has_cell = [], 0, False
        has_cell = has_cell or line.lstrip().startswith("_cell_length_a")
        length += len(line) + 1
        if line and length <= MAX_CIF_CHARACTERS:
            lines.append(line)
        elif not lines:
            lines.append("")
    if lines:
        yield _block(lines, length), has_cell


def _block(lines: list[str], length: int) -> CifText | Missing:
    if length > MAX_CIF_CHARACTERS:
        return Missing(f"more than {MAX_CIF_CHARACTERS} characters of CIF, which are not parsed")
    return cif_text("\n".join(lines))


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
    blocks = [entry for _, entry in read_cif(io.StringIO(text), "")]
    return blocks[0] if len(blocks) == 1 else Missing(f"{len(blocks)} crystals where one belongs")


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
