"""From CIF texts to crystals: in parallel, a reason for each text that holds none, the data sets' kept in a cache."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from bench.atomic import write_bytes
from bench.cif_atoms import Atoms, plain_crystal
from bench.crystal_table import parquet_bytes, table_to_sifted
from bench.crystals import Crystals, Sifted, sift
from bench.parquet import read_table

PARSER_VERSION = 2  # raise it whenever the parsed crystals of the same text change
CHUNK = 2048  # texts a worker gets at a time: about half a second of work; for one or two chunks no worker is started

Progress = Callable[[int, int], None]


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


@dataclass(frozen=True)
class Parsed:
    """What became of some CIF texts. remarks: how some were read -> how many of them."""

    sifted: Sifted
    remarks: Mapping[str, int] = field(default_factory=dict)


def parse_cifs(
    cifs: Sequence[str], read: Callable[[str], Atoms], workers: int = 2, on_progress: Progress | None = None
) -> Parsed:
    """Each CIF text through `published_crystal` or `plain_crystal`; one that cannot be read is a reason.

    workers: processes, of one thread each. on_progress is called with (done, total) texts.
    """
    from joblib import Parallel, delayed, parallel_config

    chunks = [cifs[start : start + CHUNK] for start in range(0, len(cifs), CHUNK)]
    workers = min(workers, len(chunks)) if len(chunks) > 2 else 1
    # loky starts workers by itself: no fork of a process with threads, and no guard needed in the caller's main module.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        jobs = Parallel(n_jobs=workers, return_as="generator")(delayed(_parse_chunk)(chunk, read) for chunk in chunks)
        parts: list[Sifted] = []
        remarks: Counter[str] = Counter()
        done = 0
        for chunk, part in zip(chunks, jobs, strict=True):
            parts.append(part.sifted)
            remarks.update(part.remarks)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(cifs))
    return Parsed(Sifted.concatenate(parts) if parts else Sifted.complete(Crystals.empty()), dict(remarks))


def parse_published(cifs: Sequence[str], workers: int = 2, on_progress: Progress | None = None) -> Sifted:
    """Each CIF text as `published_crystal`, from the cache where the same parser and pymatgen parsed them before."""
    import pyarrow as pa

    path = cache_dir() / "parsed" / f"{_content_key(cifs)}.parquet"
    try:
        return table_to_sifted(read_table(path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (pa.ArrowException, ValueError, OSError) as error:
        warnings.warn(f"{path}: damaged cache file, parsed afresh ({error})", stacklevel=2)
    parsed = parse_cifs(cifs, published_crystal, workers, on_progress)
    for remark, count in parsed.remarks.items():
        warnings.warn(f"{count} of {len(cifs)} crystals of the data set: {remark}", stacklevel=2)
    sifted = parsed.sifted
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, parquet_bytes(sifted))
    except OSError as error:
        warnings.warn(f"{path.parent}: the parsed crystals cannot be kept ({error}); set BENCH_CACHE_DIR", stacklevel=2)
    return sifted


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of at most 300 characters."""
    text = " ".join(str(error).split()) or "no message"
    return f"{'' if isinstance(error, ValueError) else type(error).__name__ + ': '}{text}"[:300]


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


def _parse_chunk(cifs: Sequence[str], read: Callable[[str], Atoms]) -> Parsed:
    found: dict[int, Atoms] = {}
    reasons: dict[int, str] = {}
    for place, cif in enumerate(cifs):
        try:
            found[place] = read(cif)
        except Exception as error:  # a parser fed foreign text raises anything; it becomes the reason
            reasons[place] = one_line(error)
    if not found:
        return Parsed(Sifted(Crystals.empty(), np.zeros(0, dtype=np.int64), reasons))
    crystals = list(found.values())
    sifted = sift(
        [len(atoms.atomic_numbers) for atoms in crystals],
        np.concatenate([atoms.atomic_numbers for atoms in crystals]),
        np.concatenate([atoms.frac_coords for atoms in crystals]),
        np.array([atoms.lattice for atoms in crystals]),
    )
    places = np.array(list(found), dtype=np.int64)
    reasons |= {int(places[row]): reason for row, reason in sifted.reasons.items()}
    kept = [crystals[row].remarks for row in sifted.indices]
    remarks = Counter(remark for each in kept for remark in dict.fromkeys(each))
    return Parsed(Sifted(sifted.crystals, places[sifted.indices], dict(sorted(reasons.items()))), dict(remarks))
