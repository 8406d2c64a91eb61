"""How late budgets end, and what recording takes: several runs with a budget of device time, one after the other.

python -m tests.perf.budget_runs --runs 10 --budget 60s --models crysldm,diffcsp        on a quiet machine
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.budget import parse_duration
from bench.store import Run


@dataclass(frozen=True)
class BudgetRun:
    """One model of one run, in seconds. recording: wall-clock time between batches, in which they were written."""

    model: str
    budget: float
    overshoot: float
    counted: float
    sampling: float
    recording: float
    batches: int

    @property
    def late(self) -> float:
        """Overshoot as a fraction of the budget."""
        return self.overshoot / self.budget

    @property
    def recorded(self) -> float:
        """Recording as a fraction of the time of sampling."""
        return self.recording / self.sampling


def budget_runs(runs: int, budget: str, models: str, threads: int) -> Iterator[BudgetRun]:
    """Each model of each run as it ends; every run has a seed of its own. CalledProcessError where one fails."""
    for seed in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "run"
            asked = ["--models", models, "--dataset", "perov5", "--budget", budget, "--seed", str(seed)]
            how = ["--tasks", "validity", "--device", "cpu", "--threads", str(threads), "--out", str(root)]
            subprocess.run([sys.executable, "-m", "bench", "run", *asked, *how], check=True, capture_output=True)
            stored = Run.open(root)
            for model in stored.models:
                yield _read(stored, model, parse_duration(budget))


def _read(stored: Run, model: str, budget: float) -> BudgetRun:
    metrics = stored.summary()["models"][model]["metrics"]
    overshoot, counted, sampling = (
        metrics[f"{name}_seconds"]["value"] for name in ("overshoot", "counted", "sampling")
    )
    batches = stored.folders(model)[0].batches
    # A batch's wall-clock time begins where the one before was sampled, and so holds the recording of that one.
    between = [b.wall_s - ((b.end_s or 0.0) - (b.start_s or 0.0)) for b in batches[1:]]
    recording = sum(between) * len(batches) / max(len(between), 1)
    return BudgetRun(model, budget, overshoot, counted, sampling, recording, len(batches))


def main() -> None:
    parser = argparse.ArgumentParser(description="How late budgets end, and what recording takes.")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--models", default="crysldm,diffcsp")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(f"{'model':16} {'batches':>7} {'counted':>9} {'overshoot':>10} {'late':>7} {'recording':>10}")
    found = []
    for run in budget_runs(given.runs, given.budget, given.models, given.threads):
        found.append(run)
        print(
            f"{run.model:16} {run.batches:7} {run.counted:7.2f} s {run.overshoot:8.3f} s {run.late:7.2%} "
            f"{run.recorded:10.3%}",
            flush=True,
        )
    print(f"most: {max(run.late for run in found):.2%} late, {max(run.recorded for run in found):.3%} for recording")


if __name__ == "__main__":
    main()
