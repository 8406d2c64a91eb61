"""Crystals in the cells of tables, and tables as CSV texts, read as a stream."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from bench.crystal_io.cif import only_block
from bench.crystal_io.json_texts import structure_json
from bench.crystal_io.streams import MAX_JSON_CHARACTERS, CifText, Missing, Place
from bench.crystal_io.structure_dicts import structure_column
from bench.crystals import Crystals


def structure_text(text: str | None) -> Crystals | CifText | Missing:
    """What a table's cell holds: pymatgen's JSON where it starts with a brace, else a CIF text."""
    if text is None or not text.strip():
        return Missing("is empty")
    if len(text) > MAX_JSON_CHARACTERS:
        return Missing(f"{len(text)} characters; at most {MAX_JSON_CHARACTERS} are read")
    if text.lstrip().startswith("{"):
        return structure_json(text)
    return only_block(text)


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
