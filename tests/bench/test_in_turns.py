"""Models sampled in turns, a batch of each."""

from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import fake_generators
import pytest
from fake_generators import Fake

from bench.budget import Budget, MonotonicClock
from bench.executor import LocalExecutor
from bench.interfaces import SampleBatch
from bench.runner import resume, run
from bench.store import Run
from tests.bench import fake_runs
from tests.bench.fake_runs import kept

pytestmark = pytest.mark.usefixtures("fakes")

TWO = "fake_generators:Noted,fake_generators:NotedToo"

plan = functools.partial(fake_runs.plan, models=TWO, budget=Budget(num_samples=12), tasks=("validity",), in_turns=True)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def lines(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


def test_each_model_samples_a_batch_in_its_turn_in_a_process_of_its_own(tmp_path: Path, log: Path) -> None:
    others = set(multiprocessing.active_children())  # pools of other tests
    run(plan(), tmp_path / "r")
    noted = lines(log)
    assert [name for name, size, _ in noted if size != "1"] == ["noted", "noted-too"] * 3  # a warm-up has one crystal
    assert len({process for _, _, process in noted}) == 2
    assert set(multiprocessing.active_children()) <= others


def test_the_crystals_are_those_of_models_sampled_one_after_the_other(tmp_path: Path, log: Path) -> None:
    run(plan(repeats=2), tmp_path / "turns")
    run(plan(repeats=2, in_turns=False), tmp_path / "plain", MonotonicClock())
    assert kept(tmp_path / "turns") == kept(tmp_path / "plain")


def test_a_model_that_costs_more_goes_on_alone_when_the_others_are_done(tmp_path: Path, log: Path) -> None:
    run(plan(models=f"{TWO},fake_generators:Tiny"), tmp_path / "r")  # 12 crystals of Tiny are one batch
    assert [
        folder.counted for name in ("noted", "noted-too", "tiny") for folder in Run.open(tmp_path / "r").folders(name)
    ] == [12] * 3


def test_a_model_without_data_is_skipped_and_the_others_go_on(tmp_path: Path, log: Path) -> None:
    run(plan(models="fake_generators:Noted,fake_generators:NoData"), tmp_path / "r")
    assert Run.open(tmp_path / "r").skipped == ["no-data"]
    assert Run.open(tmp_path / "r").folders("noted")[0].counted == 12


def test_after_a_failure_no_process_is_left_and_the_run_goes_on_in_turns(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan(models=f"fake_generators:Dying,{TWO}"), tmp_path / "whole")
    others = set(multiprocessing.active_children())
    monkeypatch.setenv("FAKE_DEATH", str(tmp_path / "death"))
    with pytest.raises(ValueError, match="fake: the process that sampled it ended"):
        run(plan(models=f"fake_generators:Dying,{TWO}"), tmp_path / "r")
    assert set(multiprocessing.active_children()) <= others
    log.unlink()
    resume(tmp_path / "r", workers=1)
    assert kept(tmp_path / "r") == kept(tmp_path / "whole")
    assert [name for name, size, _ in lines(log) if size != "1"] == ["noted", "noted-too"]  # the third batches alone


def test_the_manifest_says_so(tmp_path: Path, log: Path) -> None:
    run(plan(), tmp_path / "r", MonotonicClock())
    assert Run.open(tmp_path / "r").manifest["in_turns"] is True
    with pytest.raises(ValueError, match="in_turns"):
        resume(tmp_path / "r", workers=1, given={"in_turns": False})


def test_other_machines_take_no_turns(tmp_path: Path, log: Path) -> None:
    elsewhere = LocalExecutor(1)
    object.__setattr__(elsewhere, "name", "dask")
    with pytest.raises(ValueError, match="--in-turns takes the models of one machine in turns; leave out --executor"):
        run(plan(), tmp_path / "r", executor=elsewhere)
    assert not (tmp_path / "r").exists()


def test_time_in_which_others_sampled_is_not_a_models_own(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]

    def ten_seconds(self: Fake, num_crystals: int, seed: int) -> SampleBatch:
        seconds[0] += 10
        return Fake.sample(self, num_crystals=num_crystals, seed=seed)

    monkeypatch.setattr(fake_generators.Noted, "sample", ten_seconds)
    monkeypatch.setattr("bench.sampling.loop.time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    run(plan(), tmp_path / "r", MonotonicClock(lambda: seconds[0]))
    for name in ("noted", "noted-too"):
        assert [batch.wall_s for batch in Run.open(tmp_path / "r").folders(name)[0].batches] == [10, 10, 10]
