"""Fingerprints of a data set's test split: shipped beside its card, else computed once from its file and kept.

NAME.fingerprints.parquet holds a row for each test crystal: its structure fingerprint, null where it has none, and its
elements. `python -m tasks.coverage.split_fingerprints NAME FOLDER` writes it.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bench.arrays import FloatArray
from bench.atomic import write_bytes
from bench.crystals import MAX_ATOMIC_NUMBER, Crystals
from bench.datasets import (
    cache_dir,
    canonical_name,
    dataset_spec,
    kept,
    load_split,
    reference_card,
    reference_folder,
    split_hash,
)
from bench.errors import one_line
from bench.parquet import read_table, table_bytes
from tasks.coverage.composition_fingerprint import composition_fingerprints
from tasks.coverage.structure_fingerprint import NUM_FEATURES, NoFingerprint, structure_fingerprint

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

VERSION = 1  # raise it whenever the fingerprints of the same crystals change
SECONDS_PER_ATOM = 0.009  # of CrystalNN on one core
CHUNK = 50  # crystals in one piece of work
WORKERS = 2


@dataclass(frozen=True, eq=False)
class SplitFingerprints:
    """structure: (m, 61), composition: (m, 132) of the test crystals that have both. crystals: of the split in all."""

    structure: FloatArray
    composition: FloatArray
    crystals: int

    @classmethod
    def of_table(cls, table: pa.Table) -> SplitFingerprints:
        """Those of the rows that `fingerprint_table` gives."""
        present = table.filter(table["structure"].is_valid())
        structure = np.array(present["structure"].to_pylist(), dtype=np.float64).reshape(-1, NUM_FEATURES)
        counts = np.zeros((present.num_rows, MAX_ATOMIC_NUMBER + 1), dtype=np.int64)
        for row, numbers in zip(counts, present["atomic_numbers"].to_pylist(), strict=True):
            np.add.at(row, numbers, 1)
        return cls(structure, composition_fingerprints(counts), table.num_rows)


def fingerprint_rows(crystals: Crystals) -> list[tuple[FloatArray | None, str | None]]:
    """The structure fingerprint of each crystal, or why it has none."""
    rows: list[tuple[FloatArray | None, str | None]] = []
    for b in range(len(crystals)):
        try:
            rows.append((structure_fingerprint(crystals, b), None))
        except NoFingerprint as error:
            rows.append((None, str(error)))
    return rows


def fingerprint_table(crystals: Crystals, workers: int = WORKERS) -> pa.Table:
    """Rows of `structure` (61 numbers, null where there is no fingerprint) and `atomic_numbers`."""
    pieces = [crystals[start : start + CHUNK] for start in range(0, len(crystals), CHUNK)]
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = list(pool.map(fingerprint_rows, pieces))
    else:
        found = list(map(fingerprint_rows, pieces))
    structure = [fingerprint for piece in found for fingerprint, _ in piece]
    numbers = [crystals.arrays(b)[0].tolist() for b in range(len(crystals))]
    schema = pa.schema({"structure": pa.list_(pa.float32()), "atomic_numbers": pa.list_(pa.int8())})
    return pa.table([pa.array(structure, schema.types[0]), pa.array(numbers, schema.types[1])], schema=schema)


def require_split(dataset: str) -> None:
    """DataUnavailable, with what to do, where the fingerprints are neither shipped nor can be computed."""
    if not shipped(dataset).is_file():
        split_hash(dataset, "test")


def identity(dataset: str) -> dict[str, str | int]:
    """What the fingerprints depend on: their version and the file of the split."""
    return {"fingerprints": VERSION, "test_split": reference_card(dataset).splits["test"].blob}


@functools.cache
def split_fingerprints(dataset: str) -> SplitFingerprints:
    """Those of a data set's test split. DataUnavailable where they are not shipped and its file is not at hand.

    ValueError where the file that is shipped is damaged, or the split has no crystal with a fingerprint.
    """
    place = shipped(dataset)
    if place.is_file():
        try:
            return SplitFingerprints.of_table(read_table(place))
        except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
            remedy = f"`python -m tasks.coverage.split_fingerprints {dataset} FOLDER` writes it anew"
            raise ValueError(f"{place}: damaged ({one_line(error)}); {remedy}") from error
    found = SplitFingerprints.of_table(_cached_table(dataset))
    if not len(found.structure):
        raise ValueError(f"{dataset_spec(dataset).title}: no test crystal has a structure fingerprint")
    return found


def shipped(dataset: str) -> Path | Traversable:
    """Where the fingerprints of a data set's package lie, if it has them."""
    return reference_folder(dataset) / f"{canonical_name(dataset)}.fingerprints.parquet"


def write_split_fingerprints(dataset: str, folder: Path) -> Path:
    """Computes them from the file of the test split and writes them into a folder; gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{canonical_name(dataset)}.fingerprints.parquet"
    write_bytes(place, table_bytes(_cached_table(dataset)))
    return place


def _cached_table(dataset: str) -> pa.Table:
    key = hashlib.sha256(f"{VERSION} {split_hash(dataset, 'test')}".encode()).hexdigest()[:32]
    path = cache_dir() / "fingerprints" / f"{key}.parquet"

    def compute() -> pa.Table:
        crystals = load_split(dataset, "test", download=False)
        minutes = max(1, round(len(crystals.atomic_numbers) * SECONDS_PER_ATOM / WORKERS / 60))
        warnings.warn(
            f"{dataset_spec(dataset).title}: structure fingerprints of {len(crystals)} test crystals are computed "
            f"once, about {minutes} minutes",
            stacklevel=2,
        )
        return fingerprint_table(crystals)

    return kept(path, lambda: read_table(path), compute, table_bytes, ("computed", "fingerprints"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tasks.coverage.split_fingerprints NAME FOLDER")
    sys.stdout.write(f"{write_split_fingerprints(sys.argv[1], Path(sys.argv[2]))}\n")
