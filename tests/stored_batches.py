"""Batches and task tables of a run folder without crystals, as `bench.sampling` and `bench.scoring` leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from bench.atomic import append_line
from bench.parquet import write_table
from bench.run_folder.shards import JOURNAL
from bench.store import Run


def sampled(
    folder: Path,
    model: str,
    batches: Sequence[tuple[float | None, int, bool]],
    tables: Mapping[str, Mapping[str, Sequence[bool | None]]],
    repeat: int = 0,
    evaluations: float | None = 20.0,
) -> None:
    """Writes what one repeat's batches took, (device seconds, crystals, counts), and its task tables; no crystals.

    evaluations: of the network, for each crystal.
    """
    path = Run.open(folder).folders(model)[repeat].path
    path.mkdir(parents=True, exist_ok=True)
    now = 0.0
    for number, (seconds, crystals, counted) in enumerate(batches):
        line = {
            "batch": number,
            "start_s": None if seconds is None else now,
            "end_s": None if seconds is None else now + seconds,
            "num_crystals": crystals,
            "handed_over": crystals,
            "network_evaluations": None if evaluations is None else evaluations * crystals,
            "steps": 10,
            "counted": counted,
            "wall_s": 1.0,
            "sha256": "-",
        }
        append_line(path / JOURNAL, line)
        now += seconds or 0.0
    for task, columns in tables.items():
        content = {name: pa.array(values, pa.bool_()) for name, values in columns.items()}
        index = pa.array(range(len(next(iter(content.values())))), pa.int64())
        write_table(path / f"{task}.parquet", pa.table({"index": index, **content}))
