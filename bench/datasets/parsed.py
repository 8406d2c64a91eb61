"""The crystals of a data set's CIF texts, as the published evaluations take them, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench.atomic import write_bytes
from bench.crystal_io.cif import Atoms, Progress, parse_cifs, plain_crystal
from bench.crystal_io.table import parquet_bytes, table_to_filtered
from bench.crystals import FilteredCrystals
from bench.parquet import read_table

T = TypeVar("T")

PARSER_VERSION = 2  # raise it whenever the parsed crystals of the same text change


def cache_dir() -> Path:
    """Folder of parsed and downloaded data: BENCH_CACHE_DIR, or the user's cache folder of the operating system."""
    named = os.environ.get("BENCH_CACHE_DIR")
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("crysldm-bench"))


def published_crystal(cif: str) -> Atoms:
    """The one crystal of a CIF text as CDVAE and DiffCSP take it.

    As `plain_crystal`, Niggli-reduced by pymatgen, the lattice rebuilt from its lengths and angles with the fractional
    coordinates kept. ValueError as there, and where pymatgen finds no reduced cell.
    """
    from pymatgen.core import Lattice

    numbers, coords, matrix, remarks = plain_crystal(cif)
    given = Lattice(matrix)
    reduced = given.get_niggli_reduced_lattice()
    if reduced != given:
        coords = reduced.get_fractional_coords(given.get_cartesian_coords(coords - np.floor(coords)))
    return Atoms(numbers, coords, Lattice.from_parameters(*reduced.parameters).matrix, remarks)


def parse_published(cifs: Sequence[str], workers: int = 2, on_progress: Progress | None = None) -> FilteredCrystals:
    """Each CIF text as `published_crystal`, from the cache where the same parser and pymatgen parsed them before."""

    def parse() -> FilteredCrystals:
        parsed = parse_cifs(cifs, published_crystal, workers, on_progress)
        for remark, count in parsed.remarks.items():
            warnings.warn(f"{count} of {len(cifs)} crystals of the data set: {remark}", stacklevel=2)
        return parsed.filtered

    path = cache_dir() / "parsed" / f"{_content_key(cifs)}.parquet"
    return kept(path, lambda: table_to_filtered(read_table(path)), parse, parquet_bytes, ("parsed", "parsed crystals"))


def kept(
    path: Path, read: Callable[[], T], make: Callable[[], T], content: Callable[[T], bytes], words: tuple[str, str]
) -> T:
    """What the cache file `path` holds, or else what `make` gives, kept there for the next time.

    content: of the file. words: how it is made, and what it is, for the warnings that a file is damaged or cannot be
    written.
    """
    import pyarrow as pa

    how, what = words
    try:
        return read()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (pa.ArrowException, ValueError, OSError) as error:
        warnings.warn(f"{path}: damaged cache file, {how} afresh ({error})", stacklevel=3)
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content(made))
    except OSError as error:
        warnings.warn(f"{path.parent}: the {what} cannot be kept ({error}); set BENCH_CACHE_DIR", stacklevel=3)
    return made


def _content_key(cifs: Sequence[str]) -> str:
    digest = hashlib.sha256(f"parser {PARSER_VERSION}, pymatgen-core {_pymatgen_version()}".encode())
    for cif in cifs:
        text = cif.encode()
        digest.update(b"%d\0" % len(text) + text)
    return digest.hexdigest()[:32]


def _pymatgen_version() -> str:
    try:
        return version("pymatgen-core")
    except PackageNotFoundError:  # before 2026 pymatgen was one package
        return version("pymatgen")
