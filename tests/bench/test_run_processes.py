"""Runs in processes of their own: killed again and again, orphaned, and in bounded memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.store import Run
from tests.bench.fake_runs import kept

HERE = Path(__file__).parent

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.mark.nightly  # test_killed_runs.py kills each run once, at moments of every kind
def test_killed_again_and_again_a_run_ends_like_one_that_was_left_alone(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}",
        "FAKE_BATCH_SECONDS": "0.03",
        "FAKE_SCORE_SECONDS": "0.03",
    }
    script = [sys.executable, str(HERE / "fake_bench.py"), "run"]
    options = ["--models", "fake_generators:Fake,fake_generators:NotFinite", "--dataset", "perov5"]
    options += ["--num-samples", "52", "--workers", "2", "--device", "cpu"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    done = subprocess.run([*script, *options, "--out", str(whole)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    chance = random.Random(0)
    command = [*script, *options, "--out", str(killed)]
    kills = 0
    for attempt in range(40):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            _, shown = process.communicate(timeout=0.5 + chance.uniform(0.05, 0.25) * (1 + attempt / 2))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            if (killed / "manifest.json").exists():
                command = [*script, "--resume", str(killed)]
            continue
        assert process.returncode == 0, shown
        break
    assert kills >= 3
    assert kept(killed) == kept(whole)
    one, other = (Run.open(root).summary()["models"] for root in (whole, killed))
    for model in one:
        assert one[model]["ledger"] == other[model]["ledger"]
        assert one[model]["metrics"]["valid"] == other[model]["metrics"]["valid"]


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}",
        "FAKE_SCORE_SECONDS": "2",
    }
    options = [
        "--models",
        "fake_generators:Fake",
        "--dataset",
        "perov5",
        "--num-samples",
        "200",
        "--out",
        str(tmp_path / "r"),
    ]
    process = subprocess.Popen([sys.executable, str(HERE / "fake_bench.py"), "run", *options], env=environment)

    def workers() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            command = (entry.parent / "cmdline").read_bytes() if entry.parent.exists() else b""
            if int(fields[1]) == process.pid and b"spawn_main" in command:
                found.append(int(entry.parent.name))
        return found

    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    deadline = time.monotonic() + 20
    while len(started := workers()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(started) == 2
    time.sleep(1.0)  # until they are at work
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


MEMORY = """
import resource, sys
from pathlib import Path
from bench import model_specs, registry
from bench.budget import Budget
from bench.runner import Plan, run
from fake_bench import FAKE_PLUGINS
registry.PLUGINS = FAKE_PLUGINS
models = model_specs.parse_models("fake_generators:" + sys.argv[1])
tasks = sys.argv[4].split(",") if sys.argv[4] else ()
run(Plan(models, "perov5", Budget(num_samples=int(sys.argv[2])), workers=1, tasks=tasks), Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mb(generator: str, num_samples: int, root: Path, tasks: str) -> float:
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    command = [sys.executable, "-c", MEMORY, generator, str(num_samples), str(root), tasks]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_memory_does_not_grow_with_the_number_of_crystals(tmp_path: Path) -> None:
    small = peak_mb("Tiny", 10_000, tmp_path / "small", "")
    large = peak_mb("Tiny", 200_000, tmp_path / "large", "")
    assert len(list((tmp_path / "large").rglob("samples/*.parquet"))) == 100
    assert large - small < 20


@pytest.mark.slow
def test_a_million_crystals_are_sampled_and_scored_in_bounded_memory(tmp_path: Path) -> None:
    small = peak_mb("Wide", 20_000, tmp_path / "small", "validity")
    large = peak_mb("Wide", 1_000_000, tmp_path / "large", "validity")
    assert large - small < 200  # the summary reads a task's whole table, about 100 bytes a crystal
    table = Run.open(tmp_path / "large").task_table("tiny", "validity", columns=["index"])
    assert table.num_rows == 1_000_000
    assert len(list((tmp_path / "large").rglob("*"))) < 1000
