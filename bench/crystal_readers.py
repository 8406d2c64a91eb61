"""Reading crystals, one format at a time. Nothing here runs code that a file carries."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.crystal_table import COLUMNS, table_to_sifted
from bench.crystals import Crystals, Sifted, sift
from bench.parquet import open_table
from bench.parsing import one_line

if TYPE_CHECKING:
    import pyarrow as pa

MAX_MEMBER_BYTES = 64 * 2**20  # of one file in a zip, unpacked
MAX_TOTAL_BYTES = 4 * 2**30  # of all of them, and of one .gz
MAX_CIF_CHARACTERS = 2**20  # some 20,000 atoms, a minute of parsing; its time grows with their square
MEMBER_SUFFIXES = (".cif", ".extxyz", ".xyz")
_BLOCK = re.compile(r"^data_", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class CifText:
    """A text with one CIF block, still to be parsed."""

    text: str


@dataclass(frozen=True)
class Missing:
    """Why there is no crystal."""

    reason: str


T = TypeVar("T")
Place = tuple[str, Crystals | CifText | Missing]  # name and what is there; Crystals of one


def read_cif(text: str, name: str) -> Iterator[Place]:
    """The blocks of a CIF text, those without a cell (publication data) left out where others have one."""
    starts = [match.start() for match in _BLOCK.finditer(text)]
    blocks = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=bool(starts))]
    with_cell = [block for block in blocks if "_cell_length_a" in block]
    if len(with_cell) <= 1:
        yield name, _cif_text(with_cell[0] if with_cell else text)
        return
    for number, block in enumerate(with_cell):
        yield f"{name} block {number}", _cif_text(block)


def _cif_text(text: str) -> CifText | Missing:
    if len(text) > MAX_CIF_CHARACTERS:
        return Missing(f"{len(text)} characters of CIF; at most {MAX_CIF_CHARACTERS} are parsed")
    return CifText(text)


def read_extxyz(text: str, name: str) -> Iterator[Place]:
    """Every frame of an extended XYZ text. After a frame that is cut or miscounted it goes on at the next header."""
    lines = text.splitlines()
    prefix = f"{name} " if name else ""
    line, frame = 0, 0
    while line < len(lines):
        if not lines[line].strip():
            line += 1
            continue
        label = f"{prefix}frame {frame}"
        count = lines[line].strip()
        end = line + 2 + int(count) if _is_count(count) else -1
        cut = next((i for i in range(line + 1, min(end, len(lines))) if _starts_frame(lines, i)), None)
        if end < 0 or end > len(lines) or cut is not None:
            following = next((i for i in range(line + 1, len(lines)) if _starts_frame(lines, i)), len(lines))
            what = "is cut short" if end >= 0 else f"starts with {count[:40]!r} instead of a number of atoms"
            yield label, Missing(f"line {line + 1}: the frame {what}")
            line = following
        else:
            yield label, _ase_frame("\n".join(lines[line:end]) + "\n")
            line = end
        frame += 1


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _starts_frame(lines: list[str], line: int) -> bool:
    return _is_count(lines[line].strip()) and line + 1 < len(lines) and "lattice=" in lines[line + 1].lower()


def _ase_frame(text: str) -> Crystals | Missing:
    from ase.io.extxyz import read_extxyz as read_frames

    try:
        atoms = next(read_frames(io.StringIO(text), index=0))
        if atoms.cell.rank < 3:
            return Missing("has no Lattice of three independent vectors")
        coords = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
        return only(sift([len(atoms)], atoms.numbers, coords, atoms.cell.array))
    except Exception as error:  # a parser fed foreign text raises anything; it becomes the reason
        return Missing(one_line(error))


def read_json(text: str, name: str) -> Iterator[Place]:
    """Pymatgen's JSON of one structure or of a list of them. ValueError where the text is neither."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({one_line(error)})") from error
    if isinstance(content, list):
        yield from ((f"structure {number}", pymatgen_dict(entry)) for number, entry in enumerate(content))
    else:
        yield name, pymatgen_dict(content)


def pymatgen_dict(content: Any) -> Crystals | Missing:
    """The crystal of a dictionary as pymatgen's Structure.as_dict gives it.

    Read by hand: pymatgen's own reader imports and calls whatever class the text names in its properties.
    """
    from pymatgen.core import Element

    try:
        matrix = np.array(content["lattice"]["matrix"], dtype=np.float64).reshape(3, 3)
        numbers, coords = [], []
        for number, site in enumerate(content["sites"]):
            species = site["species"]
            if len(species) != 1 or species[0].get("occu", 1) != 1:
                return Missing(f"site {number} has partial occupancies; order it first")
            numbers.append(Element(species[0]["element"]).Z)
            coords.append(site["abc"] if "abc" in site else np.linalg.solve(matrix.T, site["xyz"]))
        return only(sift([len(numbers)], numbers, np.array(coords, dtype=np.float64), matrix))
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        return Missing(f"not a pymatgen structure ({type(error).__name__}: {one_line(error)})")
    except ValueError as error:  # also numpy's LinAlgError
        return Missing(one_line(error))


def structure_text(text: str | None) -> Crystals | CifText | Missing:
    """What a table's cell holds: pymatgen's JSON where it starts with a brace, else a CIF text."""
    if text is None or not text.strip():
        return Missing("is empty")
    if not text.lstrip().startswith("{"):
        return _cif_text(text)
    try:
        return pymatgen_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        return Missing(f"not JSON ({one_line(error)})")


def structure_column(columns: list[str]) -> str:
    """Which of a table's columns holds the crystals."""
    for name in ("cif", "structure"):
        if name in columns:
            return name
    raise ValueError(f"no column named cif or structure among {', '.join(columns) or 'none'}")


def read_csv(text: str, name: str) -> Iterator[Place]:
    """The `cif` or `structure` column of a CSV text, one row a crystal."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell of 300 atoms passes the default of 128 KiB
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ValueError(f"not a CSV file ({error})") from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        return
    header = [column.removeprefix("\ufeff").strip() for column in rows[0]]  # spreadsheets put a mark before the first
    place = header.index(structure_column(header))
    for number, row in enumerate(row for row in rows[1:] if row):
        found = structure_text(row[place]) if place < len(row) else Missing(f"has {len(row)} fields of {len(rows[0])}")
        yield f"row {number}", found


def read_parquet(path: Path) -> Sifted | list[Place]:
    """Crystals of our own tables, or the `cif` or `structure` column of others."""
    import pyarrow as pa

    try:
        with open_table(path) as file:
            names = file.schema_arrow.names
            if set(COLUMNS) - {"index"} <= set(names):
                return table_to_sifted(file.read())
            column = structure_column(names)
            texts: pa.ChunkedArray = file.read(columns=[column])[column].cast(pa.large_string())
            return [(f"row {row}", structure_text(text)) for row, text in enumerate(texts.to_pylist())]
    except pa.ArrowException as error:
        raise ValueError(f"not a Parquet file of crystals ({one_line(error)})") from error


def read_eval_gen(path: Path) -> Sifted:
    """Crystals of an `eval_gen.pt` as CDVAE, DiffCSP and their descendants write it; the first evaluation of each.

    frac_coords (sum N, 3), num_atoms (B,), atom_types (sum N,) or (sum N, types) scores, lengths and angles (B, 3) in A
    and degrees; CDVAE's have a leading axis of evaluations. ValueError for a file that is none, or that carries Python
    objects.
    """
    import argparse
    import pathlib
    import pickle

    import torch

    # The authors' scripts store their command line beside the tensors; plain containers, rebuilt without running code.
    harmless: list[Any] = [argparse.Namespace, pathlib.PosixPath]
    try:
        with torch.serialization.safe_globals(harmless):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        detail = f"it carries Python objects ({named[1]}), which are not loaded" if named else "it is damaged"
        raise ValueError(f"not a file of tensors: {detail}") from error
    except (RuntimeError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(f"not a file of tensors ({one_line(error)})") from error
    needed = ("frac_coords", "num_atoms", "atom_types", "lengths", "angles")
    absent = [key for key in needed if not (isinstance(content, Mapping) and key in content)]
    if absent:
        raise ValueError(f"holds no {', '.join(absent)}: not an eval_gen file")
    try:
        arrays = [torch.as_tensor(content[key]).double().numpy(force=True) for key in needed]
        coords, counts, types, lengths, angles = [a[0] for a in arrays] if arrays[0].ndim == 3 else arrays
    except (TypeError, RuntimeError, IndexError) as error:
        raise ValueError(f"not an eval_gen file ({one_line(error)})") from error
    if types.ndim == 2:
        types = types.argmax(axis=1) + 1
    return sift(counts, types, coords, lattices_from_parameters(lengths, angles))


def lattices_from_parameters(lengths: ArrayLike, angles: ArrayLike) -> NDArray[np.float64]:
    """(B, 3, 3) lattices in A as pymatgen orients them: c along z, a in the xz plane.

    lengths: (B, 3) A. angles: (B, 3) degrees. NaN where a length is not positive.
    """
    a, b, c = np.asarray(lengths, dtype=np.float64).reshape(-1, 3).T
    alpha, beta, gamma = np.radians(np.asarray(angles, dtype=np.float64).reshape(-1, 3)).T
    with np.errstate(all="ignore"):
        cosine = (np.cos(alpha) * np.cos(beta) - np.cos(gamma)) / (np.sin(alpha) * np.sin(beta))
        gamma_star = np.arccos(np.clip(cosine, -1, 1))
        zero, b_xy = np.zeros_like(a), b * np.sin(alpha)
        vectors = [
            np.stack([a * np.sin(beta), zero, a * np.cos(beta)], axis=1),
            np.stack([-b_xy * np.cos(gamma_star), b_xy * np.sin(gamma_star), b * np.cos(alpha)], axis=1),
            np.stack([zero, zero, c], axis=1),
        ]
    lattices = np.stack(vectors, axis=1)  # (B, 3, 3)
    lattices[~((a > 0) & (b > 0) & (c > 0))] = np.nan
    return lattices


def read_folder(path: Path) -> Iterator[Place]:
    """The CIF or extended XYZ files in a folder and its subfolders, in natural order of their names."""
    members = [(file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()]
    for name, file in _chosen(members):
        yield from _member(name, file.read_bytes)


def read_zip(path: Path) -> Iterator[Place]:
    """The CIF or extended XYZ files in a zip, in natural order of their names; nothing is written to the disk.

    A file that is too large unpacked, damaged, encrypted or whose name climbs out of the archive is a reason.
    ValueError where the archive is damaged or all of it is too large.
    """
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged archive raises anything
        raise ValueError(f"not a zip file ({one_line(error)})") from error
    with archive:
        chosen = _chosen([(info.filename, info) for info in archive.infolist() if not info.is_dir()])
        total = sum(info.file_size for _, info in chosen)
        if total > MAX_TOTAL_BYTES:
            raise ValueError(f"{total / 2**30:.1f} GiB unpacked; at most {MAX_TOTAL_BYTES / 2**30:.0f} are read")
        for name, info in chosen:
            if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts:
                yield name, Missing("its name climbs out of the archive")
            elif info.file_size > MAX_MEMBER_BYTES:
                size = f"{info.file_size / 2**20:.0f} MiB unpacked"
                yield name, Missing(f"{size}; at most {MAX_MEMBER_BYTES >> 20} are read")
            else:
                yield from _member(name, functools.partial(archive.read, info))


def _chosen(members: list[tuple[str, T]]) -> list[tuple[str, T]]:
    """The crystal files in natural order of their names. ValueError where there is none or formats are mixed."""
    visible = [entry for entry in members if not any(part.startswith((".", "__MACOSX")) for part in _parts(entry[0]))]
    by_suffix: dict[str, list[tuple[str, T]]] = {}
    for entry in visible:
        suffix = PurePosixPath(entry[0].lower()).suffix
        if suffix in MEMBER_SUFFIXES:
            by_suffix.setdefault(suffix, []).append(entry)
    if len(by_suffix) > 1:
        found = " and ".join(f"{len(group)} {suffix}" for suffix, group in sorted(by_suffix.items()))
        raise ValueError(f"holds {found} files, perhaps the same crystals twice; name one kind or one file")
    if not by_suffix:
        others = ", ".join(sorted(name for name, _ in visible)[:5])
        raise ValueError(f"holds no {' or '.join(MEMBER_SUFFIXES)} file{f', but {others}' if others else ''}")
    return sorted(next(iter(by_suffix.values())), key=lambda entry: natural_order(entry[0]))


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "..")


def _member(name: str, read: Callable[[], bytes]) -> Iterator[Place]:
    try:
        text = read().decode("utf-8", "replace")
    except Exception as error:  # a damaged or encrypted member raises anything; it becomes the reason
        yield name, Missing(f"cannot be read ({one_line(error)})")
        return
    yield from (read_cif if name.lower().endswith(".cif") else read_extxyz)(text, name)


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorting key in which 2.cif comes before 10.cif."""
    pieces = re.split(r"(\d+)", name)
    numbers = [piece.lstrip("0") if piece.isdecimal() else None for piece in pieces]
    return tuple(
        (1, 0, piece) if number is None else (0, len(number), number)
        for piece, number in zip(pieces, numbers, strict=True)
        if piece
    )


def read_text(path: Path) -> str:
    """A text file, unpacked where its name ends in .gz. ValueError where that is damaged or far too large."""
    if path.suffix.lower() != ".gz":
        return path.read_bytes().decode("utf-8", "replace")
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_TOTAL_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"damaged gzip file ({one_line(error)})") from error
    if len(content) > MAX_TOTAL_BYTES:
        raise ValueError(f"more than {MAX_TOTAL_BYTES >> 30} GiB unpacked")
    return content.decode("utf-8", "replace")


def only(sifted: Sifted) -> Crystals | Missing:
    """The one crystal asked for, or why it is not there."""
    return Missing(sifted.reasons[0]) if sifted.reasons else sifted.crystals
