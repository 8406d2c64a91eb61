"""Relaxed crystals of a model in a run folder, as the scoring of a task kept them chunk by chunk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from bench.crystals import Crystals
from bench.errors import one_line
from bench.parquet import read_table
from bench.run_folder.shards import RELAXED, SampleFolder

if TYPE_CHECKING:
    import pyarrow as pa


def kept_relaxed(folder: SampleFolder, task: str) -> pa.Table | None:
    """One row per crystal that the task relaxed, by ascending `index`, its row in the task's table.

    None where none was kept: a run of an earlier version, or no crystal. ValueError names a file that is damaged.
    """
    import pyarrow as pa

    place = folder.files / RELAXED
    if not place.is_dir():
        return None
    own = re.compile(re.escape(task) + r"\.\d+\.parquet")
    tables = []
    for path in sorted((path for path in place.iterdir() if own.fullmatch(path.name)), key=lambda path: path.name):
        try:
            tables.append(read_table(path))
        except (pa.ArrowException, OSError) as error:
            remedy = f"`bench rescore RUN --tasks {task.partition('-')[0]}` writes it anew"
            raise ValueError(f"{path}: damaged ({one_line(error)}); {remedy}") from error
    return pa.concat_tables(tables).sort_by("index") if tables else None


def has_geometry(kept: pa.Table) -> pa.ChunkedArray:
    """Of each row whether its geometry came out of a relaxation; where there is no force, it is a stand-in's."""
    import pyarrow.compute as pc

    return pc.is_valid(kept["fmax"])


def relaxed_crystals(kept: pa.Table) -> Crystals:
    """The crystals of rows that have a geometry, in their order."""
    if not kept.num_rows:
        return Crystals.empty()
    numbers = [np.array(row, dtype=np.int64) for row in kept["atomic_numbers"].to_pylist()]
    return Crystals(
        np.array([len(row) for row in numbers]),
        np.concatenate(numbers),
        np.concatenate([np.array(row) for row in kept["frac_coords"].to_pylist()]).reshape(-1, 3),
        np.array(kept["lattice"].to_pylist()).reshape(-1, 3, 3),
    )
