"""SIGKILL at random moments: the resumed run is the one that was left alone, nothing lost and nothing counted twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.store import Run
from tests.bench.fake_runs import counted_metrics, kept

HERE = Path(__file__).parent


def killed_and_resumed(kind: str, folder: Path, moments: list[str]) -> list[dict[str, Any]]:
    """What became of each run (`killing.py`), all of them finished in the end."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "killing.py"), kind, str(folder), *moments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    log = (folder / "log.txt").read_text()
    assert found["whole"] == 0, log
    assert [run["resumed"] for run in found["runs"]] == [0] * len(moments), log
    assert [run["status"] for run in found["runs"]].count(-9) >= 0.9 * len(moments), found  # a timer may come too late
    return found["runs"]  # type: ignore[no-any-return]


def counted(root: Path) -> dict[str, Any]:
    """All that is counted in a run and does not depend on the time it took."""
    stored = Run.open(root)
    columns = ["repeat", "batch", "num_crystals", "handed_over", "network_evaluations", "steps", "counted"]
    entries = {}
    for name, entry in stored.summary()["models"].items():
        metrics = counted_metrics(entry["metrics"])
        batches = stored.batches(name).select(columns).to_pylist()
        entries[name] = {"batches": batches, "ledger": entry["ledger"], "metrics": metrics}
    return entries


def assert_equal_to_whole(folder: Path, runs: int) -> None:
    whole, crystals = counted(folder / "whole"), kept(folder / "whole")
    for number in range(runs):
        root = folder / str(number)
        assert kept(root) == crystals, number
        assert counted(root) == whole, number
        assert not list(root.rglob("*.tmp")) and not list(root.rglob("parts")), number


def assert_times_go_on(root: Path) -> None:
    """Each batch begins where the one before ended: no second is counted twice."""
    stored = Run.open(root)
    for model in stored.models:
        ends = stored.batches(model)["end_s"].to_pylist()
        assert stored.batches(model)["start_s"].to_pylist() == [0.0, *ends[:-1]]


@pytest.mark.slow
def test_killed_at_thirty_random_moments_a_run_ends_like_one_that_was_left_alone(tmp_path: Path) -> None:
    moments = [*["sampling", "scoring", "writing"] * 10, "waking up"]
    runs = killed_and_resumed("fake", tmp_path, moments)
    assert_equal_to_whole(tmp_path, len(runs))
    for number in range(len(runs)):
        assert_times_go_on(tmp_path / str(number))
    # The moments were different ones: with no batch yet, among batches, among chunks, after a table.
    stages = {tuple(run[name] for name in ("crystals", "parts", "tables")) for run in runs}
    assert len(stages) >= 4, stages


@pytest.mark.slow
def test_killed_while_sampling_relaxing_and_reporting_a_real_model_ends_like_one_that_was_left_alone(
    tmp_path: Path,
) -> None:
    runs = killed_and_resumed("real", tmp_path, ["sampling", "scoring", "reporting"])
    assert_equal_to_whole(tmp_path, len(runs))
    for root in (tmp_path / "whole", *(tmp_path / str(number) for number in range(len(runs)))):
        assert (root / "report" / "table1.txt").is_file()


def test_the_fakes_that_are_killed_import_no_torch() -> None:
    code = "import sys, fake_bench, fake_generators, fake_tasks, bench.runner; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
