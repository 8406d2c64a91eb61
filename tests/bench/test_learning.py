"""`bench learn` with a toy model and a clock of its own: snapshots, curves, kills, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fake_trainables
import numpy as np
import pytest

from bench.budget import MonotonicClock, device_clock
from bench.cli import main
from bench.learning.conformance import StepClock
from bench.learning.plan import LearningPlan
from bench.learning.timer import SnapshotTimer
from bench.runner import resume, run
from bench.store import Run
from bench.testing import check_trainable
from tests.bench.fake_runs import kept
from tests.bench.killed_learning import PLAN

pytestmark = pytest.mark.usefixtures("fakes")


def weights(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in sorted((root / "training").rglob("weights.txt"))}


def learn(root: Path, **options: object) -> Run:
    run(replace(PLAN, learning=replace(PLAN.learning, **options)), root, clock=StepClock())
    return Run.open(root)


def test_a_run_has_a_curve_for_each_sampler_with_its_figures_over_the_seeds(tmp_path: Path) -> None:
    stored = learn(tmp_path / "r")
    summary = stored.summary()
    assert list(summary["curves"]) == ["fake", "two", "two-few"]
    for curve in summary["curves"].values():
        assert [point["train_seconds"] for point in curve] == [2, 4, 8]
        for point in curve:
            assert point["valid"]["n"] == 22
            assert set(point["valid"]) == {"value", "low", "high", "n"}
    entry = summary["models"]["fake+4s"]
    assert entry["snapshot"]["train_seconds"] == [4.0, 4.0]
    assert np.mean([seed["valid"] for seed in entry["by_seed"]]) == pytest.approx(entry["metrics"]["valid"]["value"])
    assert len(weights(tmp_path / "r")) == 2 * 2 * 3
    assert not list((tmp_path / "r").rglob("last.json"))
    first, second = (next(folder.shards()).read().crystals for folder in stored.folders("fake+8s"))
    assert first != second


def test_killed_runs_end_with_the_bytes_of_one_that_was_left_alone(tmp_path: Path) -> None:
    calls = [3, 10, 17, 31, 60]
    script = Path(__file__).with_name("killed_learning.py")
    command = [sys.executable, str(script), str(tmp_path), *map(str, calls)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    codes = json.loads(ran.stdout)
    assert codes[0] == 0
    assert codes[1::2] == [-9] * len(calls)
    assert codes[2::2] == [0] * len(calls)
    learned = Run.open(tmp_path / "whole").manifest["learning"]
    for call in map(str, calls):
        assert weights(tmp_path / call) == weights(tmp_path / "whole")
        assert kept(tmp_path / call) == kept(tmp_path / "whole")
        assert Run.open(tmp_path / call).manifest["learning"] == learned


def test_learning_rates_of_its_own_have_curves_of_their_own(tmp_path: Path) -> None:
    stored = learn(tmp_path / "r", models=("fake_trainables:FakeTrainable",), factors=(0.5, 2.0), snapshots=1)
    assert list(stored.summary()["curves"]) == ["fake", "fake-lr0.5", "fake-lr2"]
    assert len(set(weights(tmp_path / "r").values())) == 6


def test_the_usual_sampler_may_be_left_to_the_end(tmp_path: Path) -> None:
    one = ("fake_trainables:TwoSamplers",)
    assert learn(tmp_path / "last", models=one, usual="last").models == [
        "two+8s",
        "two-few+2s",
        "two-few+4s",
        "two-few+8s",
    ]
    assert learn(tmp_path / "none", models=one, usual="none").models == ["two-few+2s", "two-few+4s", "two-few+8s"]


def test_weights_that_changed_since_are_not_sampled_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn(tmp_path / "r", models=("fake_trainables:FakeTrainable",))
    monkeypatch.setenv("FAKE_WEIGHTS", "others")
    for path in (tmp_path / "r").glob("fake+8s/repeat-1/samples/*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"weights or settings of fake\+8s, seed 1, is not the same"):
        resume(tmp_path / "r", 1, clock=StepClock())


def test_what_lies_between_steps_costs_nothing_and_several_marks_may_pass_at_once(tmp_path: Path) -> None:
    now = iter([0.0, 3.0, 100.0, 101.0]).__next__
    timer = SnapshotTimer((1.0, 2.0, 4.0), MonotonicClock(now), tmp_path)
    timer.start()
    assert timer.stop(lambda folder: (folder / "w").write_text("first"))
    timer.start()
    assert not timer.stop(lambda folder: (folder / "w").write_text("second"))
    assert timer.passed == [3.0, 3.0, 4.0]
    assert [(tmp_path / f"snapshot-{k}" / "w").read_text() for k in range(3)] == ["first", "first", "second"]
    with pytest.raises(ValueError, match="stopped before it was started"):
        timer.stop(lambda folder: None)


def test_cpu_seconds_do_not_count_waiting_and_say_nothing_of_a_gpu() -> None:
    clock = device_clock("cpu", cpu_time=True)
    clock.start()
    time.sleep(0.2)
    assert clock.stop() < 0.1
    with pytest.raises(ValueError, match="--clock cpu measures CPU seconds, which say nothing of cuda"):
        device_clock("cuda", cpu_time=True)


@pytest.mark.parametrize("name", ["FakeTrainable", "TwoSamplers"])
def test_a_model_that_keeps_the_protocol_passes(name: str) -> None:
    check_trainable(getattr(fake_trainables, name))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Forgetful", "killed after 7 steps it goes on to other weights"),
        ("Unseeded", "global random state|Python's random state"),
        ("Deaf", "took 22 steps more"),
        ("Lazy", "saved nothing"),
        ("Early", "ended after 1 of 8 seconds"),
    ],
)
def test_a_model_that_breaks_the_protocol_is_told_how(name: str, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_trainable(getattr(fake_trainables, name))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"models": ("a", "a")}, "a is there twice"),
        ({"budget_s": 0.0}, "--train-budget 0.0 s: must be more than nothing"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"factors": (1.0,)}, "--learning-rate-factors 1: write numbers above 0 but 1"),
        ({"factors": (float("nan"),)}, "--learning-rate-factors nan"),
    ],
)
def test_bad_input_is_said(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(LearningPlan(("a",), 8.0), **options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "gan", "--train-budget", "9s"], "known are crysldm, diffcsp, cdvae, or module:Class"),
        (["--models", "crysldm", "--train-budget", "9s", "--preset", "huge", "--device", "cpu"], "no preset 'huge'"),
        (["--models", "crysldm", "--train-budget", "soon"], "--train-budget 'soon': write a number above 0 with s, m"),
        (["--models", "crysldm"], "needs --models, --dataset and --train-budget"),
        (["--models", "crysldm", "--train-budget", "9s", "--learning-rate-factors", "half"], "write numbers such as"),
        (["--resume", "there"], "--dataset: there knows its own"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["learn", "--dataset", "perov5", "--out", str(tmp_path / "r"), *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
