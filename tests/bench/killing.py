"""Kills `bench run` with SIGKILL at random moments, resumes it, and prints what became of each run as JSON.

python killing.py fake|real FOLDER MOMENT ...        a moment is waking up, sampling, scoring, writing or reporting

FOLDER/whole is a run that was left alone, FOLDER/0, FOLDER/1, ... are those that were killed once. Each process is a
fork of this one, which has imported what they need: a start takes milliseconds, so that many moments can be tried.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_generators  # noqa: F401
import fake_tasks  # noqa: F401
import pyarrow.dataset  # noqa: F401
import scipy.stats  # noqa: F401
from fake_bench import FAKE_PLUGINS

from bench import cli, registry, runner
from bench.datasets import reference_card
from bench.run_folder import shards
from bench.sampling import sources
from bench.scoring import pool as scoring_pool
from bench.scoring import tables as scoring

FAKE = ["--models", "fake_generators:Fake,fake_generators:NotFinite", "--dataset", "perov5", "--num-samples", "33"]
REAL = ["--models", "crysldm@10", "--dataset", "perov5", "--num-samples", "4"]
FAKE_SECONDS = 0.005  # of a batch and of a chunk of crystals
MOST_SECONDS = {"fake": 0.01, "real": 1.0}  # between the call that was chosen and the kill
CALLS = {"fake": {"sampling": 16, "scoring": 24, "writing": 120}}  # of an uninterrupted run, or somewhat fewer


def die() -> None:
    """Ends this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in(moment: str, chance: random.Random, kind: str) -> None:
    """Arranges for this process to be killed: a random time after a random call of what the moment is about."""
    number, calls = chance.randint(1, CALLS.get(kind, {}).get(moment, 1)), 0
    seconds = 0.0 if moment in ("waking up", "writing") else chance.uniform(0, MOST_SECONDS[kind])

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                if seconds:
                    threading.Timer(seconds, die).start()
                else:
                    die()
            return real(*arguments, **options)

        return wrapper

    if moment in ("waking up", "sampling"):  # the first call is the batch that nobody keeps
        sources.GeneratorSource._sample = counted(sources.GeneratorSource._sample)  # type: ignore[method-assign]
    elif moment == "scoring":
        scoring.score_chunk = counted(scoring.score_chunk)
        scoring_pool.wait = counted(scoring_pool.wait)  # type: ignore[attr-defined] # where workers score
    elif moment == "writing":
        os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    else:
        runner.write_reports = counted(runner.write_reports)  # type: ignore[attr-defined]


def process(arguments: list[str], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """The status of a fork that runs the command line: its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        with open(log, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = 1
        try:
            before()
            cli.main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def found(root: Path) -> dict[str, bool]:
    """What a killed run had come to."""
    samples = list(root.glob("*/samples/*.parquet"))
    return {
        "manifest": (root / "manifest.json").exists(),
        "crystals": bool(samples),
        "parts": any(root.glob("*/parts/*/*")),
        "tables": any(root.glob("*/validity.parquet")),
        "summary": (root / "summary.json").exists(),
    }


def main() -> None:
    kind, where, *moments = sys.argv[1:]
    folder = Path(where)
    options = ["run", *(FAKE if kind == "fake" else REAL), "--device", "cpu", "--threads", "1"]
    if kind == "fake":
        registry.PLUGINS = FAKE_PLUGINS
        os.environ |= {"FAKE_BATCH_SECONDS": str(FAKE_SECONDS), "FAKE_SCORE_SECONDS": str(FAKE_SECONDS)}
        scoring.CHUNK_CRYSTALS = 7
        shards.SHARD_CRYSTALS = 15  # so that batches are merged, too
    else:
        for task in registry.task_names(None):
            registry.plugin("task", task)
        registry.build_tasks(("stability",), (), "perov5", None)
    reference_card("perov5")
    log = folder / "log.txt"
    whole = process([*options, "--workers", "1", "--out", str(folder / "whole")], log)
    results = []
    for place, moment in enumerate(moments):
        root, chance = folder / str(place), random.Random(place)
        workers = ["--workers", "2" if kind == "fake" and moment == "scoring" and place % 4 == 0 else "1"]
        command = [*options, *workers, "--out", str(root)]
        status = process(command, log, lambda moment=moment, chance=chance: kill_in(moment, chance, kind))
        state = found(root)
        again = ["run", "--resume", str(root), "--workers", "1"] if state["manifest"] else command
        results.append({"moment": moment, "status": status, **state, "resumed": process(again, log)})
    print(json.dumps({"whole": whole, "runs": results}))


if __name__ == "__main__":
    main()
