"""A disk that is full within a run of this process: one line, and what was complete is still there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.commands.report import write_reports
from bench.runner import resume, run
from bench.scoring import tables as scoring
from tests.bench.fake_runs import kept, plan

pytestmark = pytest.mark.usefixtures("fakes")


def full_disk(after: int) -> Callable[[int], None]:
    calls, real = 0, os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(28, "No space left on device")
        real(descriptor)

    return fsync


def test_a_full_disk_loses_nothing_that_was_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(plan(), tmp_path / "whole")
    for after in (8, 13, 25):
        root = tmp_path / str(after)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_disk(after))
            with pytest.raises(ValueError, match="No space left on device.*what is complete is kept"):
                run(plan(), root)
        resume(root)
        assert kept(root) == kept(tmp_path / "whole"), after


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_table_for_which_there_is_no_room_is_named_and_written_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        real = scoring.table_writer  # type: ignore[attr-defined]
        patch.setattr(scoring, "table_writer", lambda path, schema: real(Path("/dev/full"), schema))
        with pytest.raises(
            ValueError, match=r"fake/validity\.parquet: No space left on device; what is complete is kept"
        ):
            run(plan(), tmp_path / "r")
    resume(tmp_path / "r")
    assert kept(tmp_path / "r") == kept(tmp_path / "whole")


def test_a_report_for_which_there_is_no_room_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folders: object) -> str:
        Path("/dev/full").write_text("a table")
        return ""

    monkeypatch.setattr("bench.registry.known", lambda kind: ["table1"] if kind == "report" else ["validity"])
    monkeypatch.setattr("bench.registry.plugin", lambda kind, name: full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_reports([tmp_path])
    assert caught.value.filename == str(tmp_path / "report")
