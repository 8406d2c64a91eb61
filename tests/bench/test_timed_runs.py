"""Runs by time: the deadline is met, batches are calibrated, and what a number of samples will cost is said."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import fake_generators
import pytest

from bench.budget import Budget, MonotonicClock
from bench.interfaces import SampleBatch
from bench.runner import resume, run
from bench.store import Run
from tests.bench.fake_runs import kept, model_summary, plan

pytestmark = pytest.mark.usefixtures("fakes")


class StubbornlySlow(fake_generators.Fake):
    """Each crystal takes 0.3 s of a clock that nothing else moves, each batch 0.5 s more; the eleventh 60 s."""

    batch_s = 0.5
    wakes_up_s = 0.0
    now = 0.0
    calls = 0
    stalls = False

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        type(self).calls += 1
        type(self).now += self.batch_s + 0.3 * num_crystals + (60 if self.stalls and self.calls == 11 else 0)
        type(self).now += self.wakes_up_s if self.calls == 1 else 0
        return super().sample(num_crystals=num_crystals, seed=seed)


def run_slowly(
    root: Path, monkeypatch: pytest.MonkeyPatch, budget: Budget | None, stalls: bool = False
) -> dict[str, Any]:
    for name, value in (("now", 0.0), ("calls", 0), ("stalls", stalls)):
        monkeypatch.setattr(StubbornlySlow, name, value)
    monkeypatch.setattr(fake_generators, "Fake", StubbornlySlow)
    run(plan(budget=budget), root, MonotonicClock(lambda: StubbornlySlow.now))
    return model_summary(root, "fake")


def test_a_default_number_of_samples_is_said_with_what_it_and_the_papers_will_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = run_slowly(tmp_path / "r", monkeypatch, budget=None)
    shown = capsys.readouterr().err
    assert "250 crystals of each model, the default on cpu; the paper's is --num-samples 1000" in shown
    estimate = "fake: 250 crystals will take about 100 s of device time, the paper's 1000 about 6 min 40 s (estimated"
    assert shown.count(estimate) == 1
    assert shown.index(estimate) < shown.index("fake: sampling")
    assert entry["requested"] == 250
    assert entry["metrics"]["sampling_seconds"]["value"] == pytest.approx(100)


def test_a_budget_is_spent_and_the_last_batch_ends_before_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = run_slowly(tmp_path / "r", monkeypatch, Budget(seconds=60.0))
    seconds = {name: figure["value"] for name, figure in entry["metrics"].items()}
    assert seconds["overshoot_seconds"] == 0
    assert 58.5 < seconds["counted_seconds"] <= 60
    assert seconds["sampling_seconds"] == seconds["counted_seconds"]
    assert seconds["warmup_seconds"] == pytest.approx(0.8 + 0.8 + 2.0)  # of one crystal, which wakes up, one and five
    assert seconds["seconds_per_crystal"] == pytest.approx(seconds["counted_seconds"] / entry["requested"])
    batches = Run.open(tmp_path / "r").batches("fake").to_pylist()
    assert all(now["start_s"] == before["end_s"] for before, now in itertools.pairwise(batches))
    assert batches[-1]["end_s"] == pytest.approx(sum(0.5 + 0.3 * b["num_crystals"] for b in batches))


def test_a_generator_that_wakes_up_slowly_is_calibrated_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StubbornlySlow, "wakes_up_s", 30.0)
    entry = run_slowly(tmp_path / "r", monkeypatch, Budget(seconds=60.0))
    assert entry["metrics"]["warmup_seconds"]["value"] == pytest.approx(30.0 + 0.8 + 0.8 + 2.0)
    assert Run.open(tmp_path / "r").batches("fake").to_pylist()[0]["num_crystals"] == 5


def test_a_slow_generator_is_not_asked_for_ever_larger_batches_that_nobody_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StubbornlySlow, "batch_s", 20.0)
    entry = run_slowly(tmp_path / "r", monkeypatch, Budget(seconds=60.0))
    assert entry["metrics"]["warmup_seconds"]["value"] == pytest.approx(2 * 20.3)
    assert entry["requested"] == 7  # of five, its own size, and of the two that then fit


def test_a_batch_that_ends_after_the_deadline_is_kept_but_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = run_slowly(tmp_path / "r", monkeypatch, Budget(seconds=60.0), stalls=True)
    stored = Run.open(tmp_path / "r")
    batches = stored.batches("fake").to_pylist()
    assert [b["counted"] for b in batches] == [True] * 7 + [False]  # the warm-up had three
    assert entry["requested"] == 35 == stored.task_table("fake", "validity").num_rows
    assert sum(shard.num_rows for shard in stored.folders("fake")[0].shards()) == 40
    assert entry["metrics"]["overshoot_seconds"]["value"] == pytest.approx(batches[-1]["end_s"] - 60)
    assert entry["metrics"]["sampling_seconds"]["value"] == pytest.approx(batches[-1]["end_s"])
    assert entry["metrics"]["counted_seconds"]["value"] == pytest.approx(batches[-2]["end_s"])
    before = kept(tmp_path / "r")
    resume(tmp_path / "r")
    assert kept(tmp_path / "r") == before


def test_a_model_too_slow_for_the_budget_has_no_figures_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fake_generators, "Fake", StubbornlySlow)
    run(plan(budget=Budget(seconds=0.5)), tmp_path / "r", MonotonicClock(lambda: StubbornlySlow.now))
    entry = model_summary(tmp_path / "r", "fake")
    assert entry["requested"] == 0
    assert entry["metrics"]["seconds_per_crystal"]["value"] is None
    assert entry["metrics"]["overshoot_seconds"]["value"] == pytest.approx(0.3)
    assert "no batch ended within 0.5 device seconds" in capsys.readouterr().err
    resume(tmp_path / "r")
