"""A budget that pays for sampling and for scoring: batch by batch, counted together, the same tables in the end."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import fake_generators
import fake_tasks
import pyarrow as pa
import pytest

from bench.budget import Budget, MonotonicClock
from bench.crystals import Crystals
from bench.errors import Interrupted
from bench.interfaces import SampleBatch
from bench.rescoring import rescore
from bench.runner import resume, run
from bench.scoring import between_batches as batch_scoring
from bench.store import Run
from reports.run_results import read_results
from reports.yields.figure import render_at
from reports.yields.stored import yield_curves
from tests.bench import fake_runs
from tests.bench.fake_runs import kept

pytestmark = pytest.mark.usefixtures("fakes")
with_slow_fakes = pytest.mark.usefixtures("slow_fakes")


class Now:
    """Seconds that only fakes move."""

    seconds = 0.0
    scored = 0


class Sampled(fake_generators.Fake):
    """0.05 s a crystal."""

    batch_size = 20

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        Now.seconds += 0.05 * num_crystals
        return super().sample(num_crystals=num_crystals, seed=seed)


class Relaxed(fake_tasks.FakeValidity):
    """0.45 s a crystal, so that with sampling it costs half a second."""

    chunk_crystals = 3

    def score(self, crystals: Crystals) -> pa.Table:
        Now.seconds += 0.45 * len(crystals)
        Now.scored += len(crystals)
        return super().score(crystals)


@pytest.fixture
def slow_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Now, "seconds", 0.0)
    monkeypatch.setattr(Now, "scored", 0)
    monkeypatch.setattr(fake_generators, "Fake", Sampled)
    monkeypatch.setattr(fake_tasks, "FakeValidity", Relaxed)
    monkeypatch.setattr(batch_scoring, "MonotonicClock", clock)


def clock() -> MonotonicClock:
    return MonotonicClock(lambda: Now.seconds)


plan = functools.partial(fake_runs.plan, budget=Budget(seconds=60.0, covers="end-to-end"))


@with_slow_fakes
def test_sampling_and_scoring_together_end_at_the_deadline(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r", clock())
    stored = Run.open(tmp_path / "r")
    batches = stored.batches("fake").to_pylist()
    for batch in batches:
        assert batch["scoring_s"] == pytest.approx(0.45 * batch["num_crystals"])
        assert batch["end_s"] - batch["start_s"] == pytest.approx(0.05 * batch["num_crystals"])
    metrics = stored.summary()["models"]["fake"]["metrics"]
    counted = sum(batch["num_crystals"] for batch in batches if batch["counted"])
    assert 57 < 0.5 * counted <= 60
    assert metrics["overshoot_seconds"]["value"] < 0.03 * 60
    assert metrics["counted_seconds"]["value"] == pytest.approx(0.05 * counted)  # still those of sampling
    assert stored.summary()["models"]["fake"]["requested"] == counted
    assert stored.manifest["budget"] == {"seconds": 60.0, "covers": "end-to-end"}


@with_slow_fakes
def test_each_crystal_is_scored_once_and_the_tables_are_those_of_scoring_afterwards(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r", clock())
    before = kept(tmp_path / "r")
    sampled = sum(shard.num_rows for shard in Run.open(tmp_path / "r").folders("fake")[0].shards())
    assert Now.scored == sampled + 1  # the one that it was warmed up with
    rescore(tmp_path / "r", workers=1)
    assert kept(tmp_path / "r") == before
    assert not (tmp_path / "r" / "fake" / "parts").exists()


def test_workers_score_between_batches_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SCORE_SECONDS", "0.1")
    run(plan(workers=2, budget=Budget(seconds=3.0, covers="end-to-end")), tmp_path / "r")
    stored = Run.open(tmp_path / "r")
    batches = stored.batches("fake").to_pylist()
    assert all(batch["scoring_s"] > 0.1 for batch in batches if batch["counted"])
    assert stored.task_table("fake", "validity").num_rows == sum(b["num_crystals"] for b in batches if b["counted"])


def test_the_seconds_of_scoring_between_batches_are_in_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SCORE_SECONDS", "0.1")
    run(plan(budget=Budget(seconds=2.0, covers="end-to-end")), tmp_path / "r")
    stored = Run.open(tmp_path / "r")
    by_batch = sum(batch["scoring_s"] for batch in stored.batches("fake").to_pylist())
    total = stored.summary()["models"]["fake"]["metrics"]["scoring_seconds"]["value"]
    assert total == pytest.approx(by_batch, rel=0.2)


@with_slow_fakes
def test_a_batch_that_scoring_takes_over_the_deadline_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Relaxed.score

    def stalls(self: Relaxed, crystals: Crystals) -> pa.Table:
        Now.seconds += 100 if Now.scored > 30 else 0
        return real(self, crystals)

    monkeypatch.setattr(Relaxed, "score", stalls)
    run(plan(), tmp_path / "r", clock())
    stored = Run.open(tmp_path / "r")
    batches = stored.batches("fake").to_pylist()
    assert [batch["counted"] for batch in batches] == [True] * (len(batches) - 1) + [False]
    metrics = stored.summary()["models"]["fake"]["metrics"]
    end = batches[-1]["end_s"] + sum(batch["scoring_s"] for batch in batches)
    assert metrics["overshoot_seconds"]["value"] == pytest.approx(end - 60)
    before = kept(tmp_path / "r")
    resume(tmp_path / "r", workers=1)
    assert kept(tmp_path / "r") == before


@with_slow_fakes
@pytest.mark.parametrize("interrupted_after", [1, 9, 40])
def test_an_interrupted_batch_is_scored_anew_and_paid_for(
    interrupted_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan(), tmp_path / "whole", clock())
    monkeypatch.setattr(Now, "seconds", 0.0)
    monkeypatch.setattr(Now, "scored", 0)
    real = Relaxed.score

    def interrupted(self: Relaxed, crystals: Crystals) -> pa.Table:
        if Now.scored > interrupted_after:
            raise KeyboardInterrupt
        return real(self, crystals)

    with monkeypatch.context() as patch:
        patch.setattr(Relaxed, "score", interrupted)
        with pytest.raises(Interrupted, match="go on with"):
            run(plan(), tmp_path / "r", clock())
    open_batch = Run.open(tmp_path / "r").folders("fake")[0].batches[-1]
    assert open_batch.scoring_s is None
    resume(tmp_path / "r", workers=1, clock=clock())
    assert kept(tmp_path / "r") == kept(tmp_path / "whole")
    whole, resumed = (Run.open(tmp_path / name).batches("fake").to_pylist() for name in ("whole", "r"))
    for one, other in zip(whole, resumed, strict=True):
        assert one["counted"] == other["counted"]
        assert one["scoring_s"] == pytest.approx(other["scoring_s"])


@with_slow_fakes
def test_the_yield_curve_of_such_a_run_is_by_both_together(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r", clock())
    curves = {(c.kind, c.axis): c for c in yield_curves(read_results([tmp_path / "r"])[0])}
    both = curves["valid", "end_to_end"]
    assert both.until == 60.0
    assert both.events[-1] > 57
    assert curves["valid", "seconds"].until < 7
    assert both.hits == curves["valid", "seconds"].hits
    assert "by 30 seconds of sampling and scoring" in render_at([tmp_path / "r"], [30.0])


@with_slow_fakes
def test_the_manifest_says_what_the_budget_covers_and_resuming_holds_to_it(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r", clock())
    with pytest.raises(ValueError, match=r'budget.covers: "end-to-end" -> null'):
        resume(tmp_path / "r", given={"budget": Budget(seconds=60.0).to_json()})
    assert json.loads((tmp_path / "r" / "manifest.json").read_text())["budget"]["covers"] == "end-to-end"
