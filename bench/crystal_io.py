"""Crystals from files and to files, with a name or a reason for each."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.crystal_readers import (
    CifText,
    Missing,
    Place,
    read_cif,
    read_csv,
    read_eval_gen,
    read_extxyz,
    read_folder,
    read_json,
    read_parquet,
    read_text,
    read_zip,
)
from bench.crystal_table import crystal_schema, crystals_to_table, table_to_sifted
from bench.crystal_writers import write_crystals
from bench.crystals import Crystals, Sifted
from bench.parsing import parse_cifs, plain_crystal

__all__ = ["ReadResult", "crystal_schema", "crystals_to_table", "read_crystals", "table_to_sifted", "write_crystals"]

TEXT_READERS = {".cif": read_cif, ".extxyz": read_extxyz, ".xyz": read_extxyz, ".json": read_json, ".csv": read_csv}


@dataclass(frozen=True)
class ReadResult:
    """What a file held. names: (requested,) where each place lies in it ("a/0017.cif", "frame 3", "row 12")."""

    sifted: Sifted
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != self.sifted.requested:
            raise ValueError(f"{len(self.names)} names for {self.sifted.requested} places")

    def reasons(self) -> dict[str, str]:
        """Name -> why there is no crystal."""
        return {self.names[place]: reason for place, reason in self.sifted.reasons.items()}


def read_crystals(path: str | Path, workers: int = 1) -> ReadResult:
    """All crystals of a file or folder; what cannot be read there is a reason and costs nothing else.

    A CIF file, a folder or zip of CIF or extended XYZ files, extended XYZ with all its frames, pymatgen's JSON (one
    structure or a list), CSV (a `cif` or `structure` column), Parquet (our tables, or such a column), each text also as
    .gz, and `eval_gen*.pt` of CDVAE and DiffCSP. Cells are taken as they are given. workers: processes that parse CIFs.
    ValueError where the whole is not what its name says or holds no crystal at all.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parsers warn of rounded coordinates and unknown keys
            result = _read(path, workers)
    except (ValueError, OSError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise ValueError(f"{path}: {text}") from error
    if len(result.sifted.crystals) == 0:
        first = next(iter(result.reasons().items()), None)
        why = f": none of its {len(result.names)} could be read; {first[0]}: {first[1]}" if first else ""
        raise ValueError(f"{path}: holds no crystal{why}")
    return result


def _read(path: Path, workers: int) -> ReadResult:
    if path.is_dir():
        return _collected(read_folder(path), workers)
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix in TEXT_READERS:
        frames_only = "" if suffix in (".extxyz", ".xyz") else path.name
        return _collected(TEXT_READERS[suffix](read_text(path), frames_only), workers)
    if name == path.name.lower():
        if suffix == ".zip":
            return _collected(read_zip(path), workers)
        if suffix == ".parquet":
            found = read_parquet(path)
            return _named(found, "row") if isinstance(found, Sifted) else _collected(found, workers)
        if suffix in (".pt", ".pth"):
            return _named(read_eval_gen(path), "crystal")
    known = ", ".join(TEXT_READERS)
    raise ValueError(f"unknown kind of file; known are {known} (each also .gz), .zip, .parquet, .pt and folders")


def _named(sifted: Sifted, word: str) -> ReadResult:
    return ReadResult(sifted, tuple(f"{word} {place}" for place in range(sifted.requested)))


def _collected(places: Iterable[Place], workers: int) -> ReadResult:
    found: list[Crystals | CifText | Missing] = []
    names: list[str] = []
    for name, entry in places:
        names.append(name)
        found.append(entry)
    cif_places = [place for place, entry in enumerate(found) if isinstance(entry, CifText)]
    texts = [entry.text for entry in found if isinstance(entry, CifText)]
    parsed = parse_cifs(texts, plain_crystal, workers)
    for row, text in parsed.reasons.items():
        found[cif_places[row]] = Missing(text)
    for number, row in enumerate(parsed.indices):
        found[cif_places[row]] = parsed.crystals[number]
    crystals = [entry for entry in found if isinstance(entry, Crystals)]
    indices = np.array([place for place, entry in enumerate(found) if isinstance(entry, Crystals)], dtype=np.int64)
    reasons = {place: entry.reason for place, entry in enumerate(found) if isinstance(entry, Missing)}
    return ReadResult(Sifted(Crystals.concatenate(crystals), indices, reasons), tuple(names))
