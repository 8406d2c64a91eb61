"""A finished run folder of as many crystals as wanted, written without sampling or scoring anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench import registry
from bench.atomic import write_json
from bench.crystal_io.table import parquet_bytes
from bench.crystals import Crystals, FilteredCrystals
from bench.datasets import reference_card
from bench.interfaces import Task
from bench.parquet import write_table
from bench.run_folder.manifest import protocol, protocol_hash
from bench.run_folder.shards import JOURNAL, SHARD_CRYSTALS, Batch
from bench.run_folder.summary import summarise
from bench.store import FORMAT, MANIFEST, SUMMARY, Run, write_state

BATCH = 50
SHARD_BATCHES = SHARD_CRYSTALS // BATCH


def write_large_run(root: Path, num_crystals: int, models: Sequence[str] = ("one", "two")) -> None:
    """All files of a run with all tasks. num_crystals: of each model, whole shards; the tables hold random numbers."""
    tasks = registry.build_tasks(registry.task_names(None), (), "perov5", None)
    content = protocol("perov5", reference_card("perov5").sha256, tasks)
    spec = {"builtin": False, "is_file": False}
    manifest = {
        "format": FORMAT,
        "dataset": "perov5",
        "protocol": content,
        "protocol_hash": protocol_hash(content),
        "budget": {"num_samples": num_crystals},
        "preset": "cpu",
        "device": {"kind": "cpu", "name": "a CPU", "cores": 2},
        "threads": 1,
        "seed": 0,
        "repeats": 1,
        "models": {name: {"kind": "generator", "spec": spec, "batch_size": BATCH, "repeats": 1} for name in models},
    }
    rng = np.random.default_rng(0)
    for name in models:
        write_samples(root / name, num_crystals, rng)
        write_state(root / name, {"load_seconds": 1.0, "warmup_seconds": 1.0, "sampled": True, "scoring_seconds": {}})
        for task in tasks:
            write_table(root / name / f"{task.name}.parquet", random_rows(task, num_crystals, rng))
    write_json(root / MANIFEST, manifest)
    write_json(root / SUMMARY, summarise(Run.open(root), tasks, reference_card("perov5")))


def write_samples(folder: Path, num_crystals: int, rng: np.random.Generator) -> None:
    """Merged shards, the same crystals in each, and the journal of their batches."""
    (folder / "samples").mkdir(parents=True)
    atoms = 5 * SHARD_CRYSTALS
    crystals = Crystals(
        np.full(SHARD_CRYSTALS, 5),
        rng.integers(1, 84, atoms),
        rng.random((atoms, 3)),
        np.tile(4 * np.eye(3), (SHARD_CRYSTALS, 1, 1)),
    )
    shard = parquet_bytes(FilteredCrystals(crystals, np.arange(SHARD_CRYSTALS), {}), 0)
    digest = hashlib.sha256(shard).hexdigest()
    with open(folder / JOURNAL, "w", encoding="utf-8") as journal:
        for number in range(num_crystals // BATCH):
            batch = Batch(number, number, number + 1.0, BATCH, BATCH, 200.0 * BATCH, 100, True, 1.01, digest)
            journal.write(json.dumps(asdict(batch)) + "\n")
    for first in range(0, num_crystals // BATCH, SHARD_BATCHES):
        (folder / "samples" / f"{first:06d}.parquet").write_bytes(shard)


def random_rows(task: Task, num_rows: int, rng: np.random.Generator) -> pa.Table:
    """Rows of a task's schema; two in a hundred have a reason."""

    def column(name: str, kind: pa.DataType) -> pa.Array:
        if name == "index":
            return pa.array(np.arange(num_rows), kind)
        if name == "reason":
            return pa.array(np.where(rng.random(num_rows) < 0.02, "volume too small", None), kind)
        if pa.types.is_boolean(kind):
            return pa.array(rng.random(num_rows) < 0.5, kind)
        if pa.types.is_floating(kind):
            return pa.array(rng.exponential(1.0, num_rows), kind)
        whole = rng.integers(1, 6, num_rows)
        return (
            pa.array(np.char.add("BaTiO", whole.astype(str)), kind)
            if pa.types.is_string(kind)
            else pa.array(whole, kind)
        )

    return pa.table([column(field.name, field.type) for field in task.schema], schema=task.schema)
