"""What 10^6 crystals cost on many workers, part by part, each measured here; and where the driver becomes the limit.

python tests/perf/scaling.py [--crystals 60] [--relaxed 40] [--written 20000] [--jobs 2000] [--json FILE]

All times are CPU seconds (user and system) of the process that does the work, with one thread: other processes of the
machine then hardly change them. docs/scaling.md says what is made of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import psutil
import pyarrow as pa
from tabulate import tabulate

from bench.atomic import write_bytes
from bench.cluster import remote
from bench.cluster.connection import quieten
from bench.cluster.crew import Connection, Crew
from bench.cluster.executor import cut
from bench.crystals import Crystals, FilteredCrystals
from bench.datasets import reference_card
from bench.interfaces import Task
from bench.model_specs import build_generator, parse_models
from bench.parquet import table_bytes
from bench.registry import build_tasks
from bench.run_folder.shards import SampleFolder, read_shard
from bench.sampling.sources import Request, SourceBatch, batch_seed, declared_batch_size
from bench.scoring.tables import (
    CHUNK_CRYSTALS,
    chunks_and_parts,
    crystals_of,
    finished,
    holds_rows,
    merge,
    score_rows,
    stored_crystals,
)
from bench.store import read_state, write_state

DATASET = "perov5"
MILLION = 1_000_000
WORKERS = (1, 10, 100, 1000)


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """User and system seconds of this process for some work, and what it gives."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, result


def sampling(model: str, number: int) -> tuple[float, Crystals, int]:
    """CPU seconds per crystal of a model, its crystals, and how many it makes in a batch. Loaded and warm before."""
    (spec,) = parse_models(model)
    generator = build_generator(spec, DATASET, "cpu")
    generator.load("cpu")
    size = declared_batch_size(generator, "cpu")
    generator.sample(num_crystals=8, seed=0)
    batches = -(-number // size)
    seconds, drawn = cpu_seconds(
        lambda: [generator.sample(num_crystals=size, seed=batch_seed(0, 0, n)) for n in range(batches)]
    )
    crystals = Crystals.concatenate([batch.crystals for batch in drawn])
    return seconds / (batches * size), crystals, size


def scoring(task: Task, crystals: Crystals) -> tuple[float, pa.Table]:
    """CPU seconds per crystal of a task, and the rows. What it loads first is there before."""
    task.score(crystals[:1])
    seconds, rows = cpu_seconds(lambda: score_rows(task, FilteredCrystals.complete(crystals), 0))
    return seconds / len(crystals), rows


def wire(crystals: Crystals, size: int, rows: dict[str, pa.Table]) -> dict[str, float]:
    """Bytes per crystal of what goes out and comes back: a batch, and for each task as many crystals as it has rows."""
    batch = FilteredCrystals.complete(crystals[:size])
    request = len(pickle.dumps((remote.draw, Request(0, 0, 0, size))))
    found = {"sampling": (request + len(pickle.dumps(SourceBatch(batch, size, 100, 1.0, 1.0)))) / size}
    for task, table in rows.items():
        chunk = FilteredCrystals.complete(crystals[: table.num_rows])
        sent = pickle.dumps((remote.score, remote.Rows(task, chunk, 0)))
        found[task] = (len(sent) + len(pickle.dumps(table_bytes(table)))) / chunk.requested
    return found


def writing(
    crystals: Crystals, size: int, tasks: list[Task], scored: dict[str, pa.Table], number: int
) -> dict[str, float]:
    """CPU seconds per crystal of the driver: batches recorded; chunks cut, their rows written, and tables made of them.

    scored: rows of each task, written again and again: computing them is the workers' part.
    """
    found: dict[str, float] = {}
    batch = FilteredCrystals.complete(crystals[:size])
    cost = {"start_s": 0.0, "end_s": 1.0, "handed_over": size, "network_evaluations": 1.0, "steps": 1, "wall_s": 1.0}
    with tempfile.TemporaryDirectory() as name:
        folder = SampleFolder(Path(name), size)
        folder.recover()
        write_state(folder.path, read_state(folder.path))

        def record() -> None:
            for _ in range(number // size):
                folder.append(pickle.loads(pickle.dumps(batch)), counted=True, **cost)

        found["record batches"] = cpu_seconds(record)[0] / number
        for task in tasks:
            todo, parts = chunks_and_parts(task, folder)
            some = scored[task.name]
            rows = pa.concat_tables([some] * -(-todo[0].num_rows // some.num_rows))

            def send(task: Task = task, todo: list[Any] = todo) -> None:
                path, shard = None, None
                for chunk in todo:
                    if path != chunk.shard:
                        path, shard = chunk.shard, read_shard(chunk.shard)
                    pickle.dumps((remote.score, remote.Rows(task.name, cut(shard, chunk), chunk.first_row)))

            def receive(parts: list[Path] = parts, rows: Any = rows, todo: list[Any] = todo) -> None:
                for chunk, part in zip(todo, parts, strict=True):
                    write_bytes(part, pickle.loads(pickle.dumps(table_bytes(rows[: chunk.num_rows]))))
                    assert holds_rows(part, chunk.num_rows)

            found[f"{task.name}: send"] = cpu_seconds(send)[0] / number
            found[f"{task.name}: write rows"] = cpu_seconds(receive)[0] / number
            table = folder.path / f"{task.name}.parquet"

            def join(task: Task = task, parts: list[Path] = parts, table: Path = table) -> None:
                merge(task, parts, table, lambda places: stored_crystals(folder, places))

            if not hasattr(task, "compare"):  # which depends on how many crystals are equal
                found[f"{task.name}: one table"] = cpu_seconds(join)[0] / number
    return found


def closing(tasks: list[Task], scored: dict[str, pa.Table], number: int) -> dict[str, float]:
    """CPU seconds per crystal of the driver when all rows are there: unique crystals found, and metrics.

    Unique are looked for among crystals with independent elements, of whose formulas few are equal.
    """
    (spec,) = parse_models("independent-elements")
    generator = build_generator(spec, DATASET, "cpu")
    generator.load("cpu")
    found: dict[str, float] = {}
    few = number // 10
    others = FilteredCrystals.complete(generator.sample(num_crystals=few, seed=1).crystals)
    for task in [task for task in tasks if hasattr(task, "compare")]:
        rows = score_rows(task, others, 0)
        seconds, scored[task.name] = cpu_seconds(lambda t=task, r=rows: finished(t, r, partial(crystals_of, others)))
        found[f"{task.name}: one table"] = seconds / few
    tables = {n: pa.concat_tables([t] * -(-number // t.num_rows)).slice(0, number) for n, t in scored.items()}
    card = reference_card(DATASET)
    for task in tasks:
        found[f"{task.name}: metrics"] = cpu_seconds(lambda t=task: t.summary(tables, card, 0))[0] / number
    return found


def answer_of(ready: Any, size: int) -> bytes:
    """A job without work and an answer of a size."""
    return bytes(size)


class Nothing:
    """A set-up that takes nothing."""

    token = "nothing"

    def make(self) -> tuple[None, remote.Report]:
        return None, remote.Report({"name": "any"})


def overhead(jobs: int) -> dict[str, float]:
    """CPU seconds per job, of driver and scheduler, for jobs that do nothing, by the bytes of their answers."""
    from distributed import Client

    here = importlib.import_module(Path(__file__).stem)  # as workers know it: this process calls it __main__
    root = Path(__file__).parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{Path(__file__).parent}"}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "scheduler.json"
        command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        log = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": root}
        processes = [subprocess.Popen([*command, "--scheduler-file", str(file)], **log)]
        try:
            while not file.exists():
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            worker = [
                sys.executable,
                "-m",
                "dask",
                "worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
            ]
            processes += [subprocess.Popen(worker, **log) for _ in range(2)]
            quieten()
            found = {}
            with Client(address) as client:
                client.wait_for_workers(2)
                crew = Crew(Connection(client, address, 60.0), here.Nothing())
                crew.first()
                for size in (0, 1_000_000):
                    scheduler = psutil.Process(processes[0].pid)
                    count = jobs if size == 0 else max(1, jobs // 10)
                    before = sum(scheduler.cpu_times()[:2])
                    seconds, _ = cpu_seconds(lambda n=count, s=size: list(crew.map(here.answer_of, [s] * n)))
                    found[f"driver, {size} bytes"] = seconds / count
                    found[f"scheduler, {size} bytes"] = (sum(scheduler.cpu_times()[:2]) - before) / count
            return found
        finally:
            for process in processes:
                process.kill()
                process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="crysldm")
    parser.add_argument("--crystals", type=int, default=100, help="sampled")
    parser.add_argument("--relaxed", type=int, default=40)
    parser.add_argument("--written", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()

    tasks = build_tasks(None, (), DATASET)
    sample_s, crystals, size = sampling(asked.model, asked.crystals)
    sample = {"crystals": len(crystals), "batch": size, "seconds": sample_s}
    scored = {t.name: scoring(t, crystals[: asked.relaxed] if t.name == "stability" else crystals) for t in tasks}
    rows = {name: table for name, (_, table) in scored.items()}
    found = {
        "sampling": sample,
        "scoring": {name: seconds for name, (seconds, _) in scored.items()},
        "bytes": wire(crystals, size, rows),
        "overhead": overhead(asked.jobs),
        "writing": writing(crystals, size, tasks, rows, asked.written) | closing(tasks, rows, asked.written),
        "chunks": {t.name: getattr(t, "chunk_crystals", CHUNK_CRYSTALS) for t in tasks},
    }
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))


def report(found: dict[str, Any]) -> str:
    """The parts per crystal, and the hours that 10^6 of them take."""
    jobs = 1 / found["sampling"]["batch"] + sum(1 / chunk for chunk in found["chunks"].values())
    per_job = {who: found["overhead"][f"{who}, 0 bytes"] for who in ("driver", "scheduler")}
    per_byte = {who: (found["overhead"][f"{who}, 1000000 bytes"] - per_job[who]) / 1e6 for who in per_job}
    moved = sum(found["bytes"].values())
    worker_s = found["sampling"]["seconds"] + sum(found["scoring"].values())
    serial = {who: per_job[who] * jobs + per_byte[who] * moved for who in per_job}
    serial["driver"] += sum(found["writing"].values())
    rows: list[tuple[str, Any]] = [("worker: sampling", found["sampling"]["seconds"])]
    rows += [(f"worker: {name}", seconds) for name, seconds in found["scoring"].items()]
    rows += [(f"driver: {name}", seconds) for name, seconds in found["writing"].items()]
    for who, seconds in per_job.items():
        rows.append((f"{who}: {jobs:.4f} jobs of {seconds * 1e3:.2f} ms", seconds * jobs))
        rows.append((f"{who}: {moved:.0f} bytes, {per_byte[who] * 1e9:.2f} ns each", per_byte[who] * moved))
    parts = tabulate([(name, f"{seconds * 1e3:.3f}") for name, seconds in rows], ("part", "CPU ms per crystal"))
    bytes_moved = tabulate([(n, f"{b:.0f}") for n, b in found["bytes"].items()], ("over the wire", "bytes per crystal"))
    unique = sum(seconds for name, seconds in found["writing"].items() if name == "novelty: one table")
    hours = []
    for workers in WORKERS:
        times = {"workers": worker_s / workers, **serial}
        without = {**times, "driver": times["driver"] - unique}
        limited = [max(t, key=lambda who, t=t: t[who]) for t in (without, times)]
        hours.append((workers, *(f"{max(t.values()) * MILLION / 3600:.2f}" for t in (without, times)), *limited))
    headers = ("workers", "hours, unique not looked for", "hours", "limited, not looked for", "limited by")
    scaled = tabulate(hours, headers)
    limits = {**serial, "driver that does not look for unique crystals": serial["driver"] - unique}
    text = ", ".join(f"the {who} at {worker_s / seconds:.0f} workers" for who, seconds in limits.items())
    return f"{parts}\n\n{bytes_moved}\n\n{scaled}\n\nThe limit is {text}."


if __name__ == "__main__":
    main()
