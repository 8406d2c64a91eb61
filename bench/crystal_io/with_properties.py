"""Crystals in one file with a table of what is known of each: a zip of CIFs, extended XYZ or Parquet."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.atomic import write_bytes
from bench.crystal_io.table import COLUMNS, crystals_to_table
from bench.crystal_io.writing import cif_texts, frame, frames_bytes, zip_bytes
from bench.crystals import Crystals
from bench.parquet import table_bytes

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "properties.csv"  # beside the CIFs of a zip


def write_with_properties(crystals: Crystals, properties: pa.Table, names: Sequence[str], path: Path) -> None:
    """Writes crystals and one row of properties for each, atomically. The same content gives the same bytes.

    .zip: NAME.cif of each crystal and `properties.csv`, with the column `file`. .extxyz: the properties above the
    atoms; `energy` as the calculator's; what is null is left out. .parquet: columns beside those of `crystal_schema`,
    whose `index` is the properties' own.
    ValueError for another ending, for no crystals, or for properties that are no row for each.
    """
    require_known_ending(path)
    if not len(crystals) == properties.num_rows == len(names) > 0:
        raise ValueError(f"{path}: {len(crystals)} crystals, {properties.num_rows} rows and {len(names)} names")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every noble gas
        write_bytes(path, WRITERS[path.suffix.lower()](crystals, properties, names))


def require_known_ending(path: Path) -> None:
    """ValueError where a name does not end like one of the formats."""
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"--out {path}: unknown ending; known are {', '.join(WRITERS)}")


def _zip(crystals: Crystals, properties: pa.Table, names: Sequence[str]) -> bytes:
    import csv

    files = [f"{name}.cif" for name in names]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", *properties.column_names])
    for file, row in zip(files, properties.to_pylist(), strict=True):
        writer.writerow([file, *row.values()])
    return zip_bytes({TABLE: text.getvalue(), **dict(zip(files, cif_texts(crystals), strict=True))})


def _extxyz(crystals: Crystals, properties: pa.Table, names: Sequence[str]) -> bytes:
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for index, row in enumerate(properties.to_pylist()):
        energy = row.pop("energy", None)
        atoms = frame(crystals, index)
        atoms.info.update(_stated(row))
        if energy is not None:
            atoms.calc = SinglePointCalculator(atoms, energy=energy)  # type: ignore[no-untyped-call]
        frames.append(atoms)
    return frames_bytes(frames)


def _stated(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a frame can say: no null, and texts without what ends a value."""
    known = {name: value for name, value in row.items() if value is not None}
    return {name: _one_value(value) if isinstance(value, str) else value for name, value in known.items()}


def _one_value(text: str) -> str:
    """A text that readers take for one value. ASE quotes it where it has a blank, but not where it has a sign of
    equality, and drops single backslashes.
    """
    return " ".join(text.replace('"', "'").replace("\\", "/").replace("=", " = ").split())


def _parquet(crystals: Crystals, properties: pa.Table, names: Sequence[str]) -> bytes:
    table = crystals_to_table(crystals)
    if "index" in properties.column_names:
        table = table.set_column(0, table.schema.field("index"), properties["index"])
    for name in properties.column_names:
        if name not in COLUMNS:
            table = table.append_column(properties.schema.field(name), properties[name])
    return table_bytes(table)


Writer = Callable[[Crystals, "pa.Table", Sequence[str]], bytes]
WRITERS: dict[str, Writer] = {".zip": _zip, ".extxyz": _extxyz, ".parquet": _parquet}
