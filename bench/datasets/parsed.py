"""The crystals of a data set's CIF texts, as the published evaluations take them, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.atomic import write_bytes
from bench.crystal_io.cif import Progress, parse_cifs
from bench.crystal_io.table import parquet_bytes, table_to_filtered
from bench.crystals import Crystals, FilteredCrystals
from bench.parquet import read_table

PARSER_VERSION = 1  # raise it whenever the parsed crystals of the same text change


def cache_dir() -> Path:
    """Folder of parsed and downloaded data: BENCH_CACHE_DIR, or the user's cache folder of the operating system."""
    named = os.environ.get("BENCH_CACHE_DIR")
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("crysldm-bench"))


def published_crystal(cif: str) -> Crystals:
    """The one crystal of a CIF text as CDVAE and DiffCSP take it.

    pymatgen's structure (its order of atoms), Niggli-reduced, the lattice rebuilt from its lengths and angles with the
    fractional coordinates kept. Raises whatever pymatgen raises for a text that it cannot read.
    """
    from pymatgen.core import Lattice, Structure

    reduced = Structure.from_str(cif, fmt="cif").get_reduced_structure()
    lattice = Lattice.from_parameters(*reduced.lattice.parameters)
    return Crystals.from_structures([Structure(lattice, reduced.species, reduced.frac_coords)])


def parse_published(cifs: Sequence[str], workers: int = 2, on_progress: Progress | None = None) -> FilteredCrystals:
    """Each CIF text as `published_crystal`, from the cache where the same parser and pymatgen parsed them before."""
    import pyarrow as pa

    path = cache_dir() / "parsed" / f"{_content_key(cifs)}.parquet"
    try:
        return table_to_filtered(read_table(path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (pa.ArrowException, ValueError, OSError) as error:
        warnings.warn(f"{path}: damaged cache file, parsed afresh ({error})", stacklevel=2)
    filtered = parse_cifs(cifs, published_crystal, workers, on_progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, parquet_bytes(filtered))
    except OSError as error:
        warnings.warn(f"{path.parent}: the parsed crystals cannot be kept ({error}); set BENCH_CACHE_DIR", stacklevel=2)
    return filtered


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
