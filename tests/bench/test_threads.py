"""How many threads sample by default, and what that costs beside other work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fake_generators
import numpy as np
import pytest
from machine_load import busy_processes

from bench.device import let_threads_sleep
from bench.model_specs import parse_models
from bench.sampling import thread_choice
from bench.sampling.thread_choice import Measured, best_threads, choose_threads, measure, thread_counts
from bench.sampling.usage import Meter, Usage

ROOT = Path(__file__).parents[2]


def test_counts_that_are_tried_are_powers_of_two_and_the_cores() -> None:
    assert [thread_counts(cores) for cores in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ([{1: 1.0, 2: 0.95, 4: 0.93}], 1),  # not worth the cores
        ([{1: 1.0, 2: 0.6, 4: 0.5}], 4),
        ([{1: 1.0, 2: 0.6, 4: 0.58}], 2),
        ([{1: 1.0, 2: 0.6, 4: 0.5}, {1: 1.0, 2: 3.0, 4: 9.0}], 1),
        ([], 1),
    ],
)
def test_the_fewest_threads_that_are_nearly_the_fastest_are_chosen(seconds: list[dict[int, float]], best: int) -> None:
    assert best_threads(seconds, [1, 2, 4]) == best


def test_a_count_that_is_much_slower_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [0]
    monkeypatch.setattr(thread_choice, "set_threads", lambda n: threads.append(n))
    clock = [0.0]
    monkeypatch.setattr(thread_choice.time, "perf_counter", lambda: clock[0])  # type: ignore[attr-defined]

    class Slow(fake_generators.Fake):
        def sample(self, num_crystals: int, seed: int) -> fake_generators.SampleBatch:
            clock[0] += 0.1 * num_crystals * threads[-1] ** 2
            return super().sample(num_crystals=num_crystals, seed=seed)

    generator = Slow()
    generator.load("cpu")
    seconds = measure(generator, 2, [1, 2, 4, 8])
    assert seconds == {1: pytest.approx(0.2), 2: pytest.approx(0.8), 4: pytest.approx(0.8), 8: pytest.approx(0.8)}
    assert max(threads) == 2


def chosen(monkeypatch: pytest.MonkeyPatch, cache: Path, disturbed: bool, seconds: dict[int, float]) -> int:
    """The choice for CrysLDM with a measurement that gives these seconds, on a machine of two cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(cache))
    monkeypatch.setattr(thread_choice, "available_cores", lambda: 2)
    monkeypatch.setattr(thread_choice, "measure", lambda *given: seconds)
    monkeypatch.setattr(Meter, "stop", lambda meter: Usage(others_share=float(disturbed)))
    [spec] = parse_models("crysldm")
    return choose_threads([Measured(spec, "perov5", "cpu", 25)])


def test_what_was_measured_on_a_free_machine_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, tmp_path, disturbed=True, seconds={1: 1.0, 2: 2.0}) == 1
    assert chosen(monkeypatch, tmp_path, disturbed=False, seconds={1: 1.0, 2: 0.5}) == 2
    assert chosen(monkeypatch, tmp_path, disturbed=False, seconds={1: 1.0, 2: 2.0}) == 2
    [stored] = (tmp_path / "threads").glob("*.json")
    assert json.loads(stored.read_text())["seconds"] == {"1": 1.0, "2": 0.5}


def test_the_users_own_number_needs_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(thread_choice, "measure", None)
    [spec] = parse_models("crysldm")
    assert choose_threads([Measured(spec, "perov5", "cpu", 25)]) == 3


def test_waiting_threads_sleep_unless_the_user_wants_them_to_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.slow
def test_beside_a_busy_process_a_run_by_default_takes_at_most_two_and_a_half_times_as_long(tmp_path: Path) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("NUM_THREADS") and name != "OMP_WAIT_POLICY"
    }
    environment |= {"BENCH_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", "run", "--models", "crysldm", "--dataset", "perov5", "--device", "cpu"]
    command += ["--num-samples", "100", "--tasks", "validity", "--workers", "1", "--out"]

    def seconds(name: str) -> float:
        out = tmp_path / name
        subprocess.run([*command, str(out)], env=environment, check=True, capture_output=True, cwd=tmp_path)
        summary = json.loads((out / "summary.json").read_text())
        return float(summary["models"]["crysldm"]["metrics"]["sampling_seconds"]["value"])

    ratios: list[float] = []
    for trial in range(3):  # in turn: this machine may have other work, that comes and goes; two of three decide
        alone = seconds(f"alone-{trial}")
        with busy_processes(1):
            ratios.append(seconds(f"beside-{trial}") / alone)
        if sum(ratio <= 2.5 for ratio in ratios) == 2:
            break
    assert sum(ratio <= 2.5 for ratio in ratios) == 2, ratios


@pytest.mark.slow
def test_crystals_do_not_depend_on_whether_waiting_threads_sleep() -> None:
    code = (
        "from bench import model_specs; from bench.device import set_threads\n"
        "g = model_specs.build_generator(model_specs.parse_models('crysldm@4')[0], 'perov5', 'cpu'); g.load('cpu')\n"
        "set_threads(2); print(g.sample(num_crystals=5, seed=1).crystals.lattices.sum())"
    )
    sums = []
    for policy in ("PASSIVE", "ACTIVE"):
        environment = {**os.environ, "OMP_WAIT_POLICY": policy, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
        sums.append(np.float64(done.stdout))
    assert sums[0] == sums[1]
