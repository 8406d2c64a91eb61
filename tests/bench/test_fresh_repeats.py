"""Repeats in processes of their own."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from bench.budget import Budget
from bench.runner import resume, run
from bench.sampling.fresh import FreshSource
from bench.store import Run
from tests.bench import fake_runs

pytestmark = pytest.mark.usefixtures("fakes")


plan = functools.partial(fake_runs.plan, budget=Budget(num_samples=12), tasks=("validity",), repeats=2)


def test_each_repeat_is_sampled_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, ended = [], []
    prepare, close = FreshSource.prepare, FreshSource.close

    def noted(source: FreshSource):  # type: ignore[no-untyped-def]
        started.append(source._process.pid)
        return prepare(source)

    def noted_close(source: FreshSource) -> None:
        close(source)
        ended.append(source._process.exitcode)

    monkeypatch.setattr(FreshSource, "prepare", noted)
    monkeypatch.setattr(FreshSource, "close", noted_close)
    run(plan(repeats=3), tmp_path / "r")
    assert len({*started, os.getpid()}) == 4
    assert ended == [0, 0, 0]


def test_the_first_repeat_has_the_crystals_of_a_run_without_repeats(tmp_path: Path) -> None:
    run(plan(repeats=1), tmp_path / "one")
    run(plan(repeats=2), tmp_path / "two")
    one, two = (Run.open(tmp_path / name).folders("fake")[0] for name in ("one", "two"))
    assert [batch.sha256 for batch in one.batches] == [batch.sha256 for batch in two.batches]


def test_what_goes_wrong_in_the_other_process_is_said_here(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="buggy: sampling failed: IndexError: list index out of range"):
        run(plan("fake_generators:Buggy"), tmp_path / "r")


def test_other_weights_are_refused_although_another_process_loads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan(), tmp_path / "r")
    for file in (tmp_path / "r" / "fake" / "repeat-1" / "samples").iterdir():
        file.unlink()
    monkeypatch.setenv("FAKE_WEIGHTS", "others")
    with pytest.raises(ValueError, match="weights or settings of fake is not the same"):
        resume(tmp_path / "r", workers=1)


def test_a_process_that_is_killed_is_named_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DEATH", str(tmp_path / "death"))
    with pytest.raises(ValueError, match=r"fake: the process that sampled it ended \(exit code -9\).*go on with"):
        run(plan("fake_generators:Dying"), tmp_path / "r")
    resume(tmp_path / "r", workers=1)
    assert [folder.counted for folder in Run.open(tmp_path / "r").folders("fake")] == [12, 12]
