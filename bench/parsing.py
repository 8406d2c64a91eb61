"""From CIF texts to crystals in the published convention: Niggli-reduced cells, in parallel, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.crystal_table import crystals_to_table, table_to_sifted
from bench.crystals import Crystals, Sifted

if TYPE_CHECKING:
    from pymatgen.core import Structure

PARSER_VERSION = 1  # raise it whenever the parsed crystals of the same text change
CHUNK = 256  # texts a worker gets at a time: about half a second of work

Progress = Callable[[int, int], None]


def cache_dir() -> Path:
    """Folder of parsed and downloaded data: BENCH_CACHE_DIR, or the user's cache folder of the operating system."""
    named = os.environ.get("BENCH_CACHE_DIR")
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("crysldm-bench"))


def published_structure(cif: str) -> Structure:
    """The crystal of a CIF text as CDVAE and DiffCSP take it.

    pymatgen's structure (its order of atoms), Niggli-reduced, the lattice rebuilt from its lengths and angles with the
    fractional coordinates kept. Raises whatever pymatgen raises for a text that it cannot read.
    """
    from pymatgen.core import Lattice, Structure

    reduced = Structure.from_str(cif, fmt="cif").get_reduced_structure()
    return Structure(Lattice.from_parameters(*reduced.lattice.parameters), reduced.species, reduced.frac_coords)


def parse_cifs(cifs: Sequence[str], workers: int = 2, on_progress: Progress | None = None) -> Sifted:
    """Each CIF text as `published_structure`; one that cannot be read is a reason.

    workers: processes, of one thread each. on_progress is called with (done, total) texts.
    """
    from joblib import Parallel, delayed, parallel_config

    chunks = [cifs[start : start + CHUNK] for start in range(0, len(cifs), CHUNK)]
    # loky starts workers by itself: no fork of a process with threads, and no guard needed in the caller's main module.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        jobs = Parallel(n_jobs=min(workers, len(chunks)) or 1, return_as="generator")(
            delayed(_parse_chunk)(chunk) for chunk in chunks
        )
        parts, reasons, done = [], {}, 0
        for chunk, (crystals, faults) in zip(chunks, jobs, strict=True):
            reasons.update({done + place: text for place, text in faults.items()})
            parts.append(crystals)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(cifs))
    places = [place for place in range(len(cifs)) if place not in reasons]
    return Sifted(Crystals.concatenate(parts), np.array(places, dtype=np.int64), reasons)


def parse_cached(cifs: Sequence[str], workers: int = 2, on_progress: Progress | None = None) -> Sifted:
    """`parse_cifs`, read from the cache when the same texts were parsed before with the same parser and pymatgen."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = cache_dir() / "parsed" / f"{_content_key(cifs)}.parquet"
    try:
        return table_to_sifted(pq.read_table(path))
    except FileNotFoundError:
        pass
    except (pa.ArrowException, ValueError, OSError) as error:
        warnings.warn(f"{path}: damaged cache file, parsed afresh ({error})", stacklevel=2)
    sifted = parse_cifs(cifs, workers, on_progress)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(crystals_to_table(sifted), partial, compression="zstd")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        warnings.warn(f"{path.parent}: the parsed crystals cannot be kept ({error}); set BENCH_CACHE_DIR", stacklevel=2)
    return sifted


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


def _parse_chunk(cifs: Sequence[str]) -> tuple[Crystals, dict[int, str]]:
    parts, reasons = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every rounded coordinate
        for place, cif in enumerate(cifs):
            try:
                parts.append(Crystals.from_structures([published_structure(cif)]))
            except Exception as error:  # a parser fed foreign text raises anything; it becomes the reason
                reasons[place] = f"{type(error).__name__}: {error}".splitlines()[0]
    return Crystals.concatenate(parts), reasons
