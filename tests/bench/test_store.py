from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_generators import random_crystals

from bench.atomic import FolderInUse, append_line, folder_lock, mend_lines, read_lines, write_bytes, write_json
from bench.crystals import Crystals, FilteredCrystals
from bench.run_folder import shards
from bench.run_folder.shards import JOURNAL, SampleFolder, read_shard
from bench.store import Run, create_folder, newest_run

COST = {
    "start_s": 0.0,
    "end_s": 1.0,
    "handed_over": 5,
    "network_evaluations": 10.0,
    "steps": 5,
    "counted": True,
    "wall_s": 2.0,
}


def batch(number: int, size: int = 5) -> FilteredCrystals:
    crystals = random_crystals(size, number)
    return FilteredCrystals(crystals[1:], np.arange(1, size), {0: f"nothing came of it in batch {number}"})


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_CRYSTALS", 15)  # three batches of five


def filled(path: Path, batches: int) -> SampleFolder:
    folder = SampleFolder(path, 5)
    folder.recover()
    for number in range(batches):
        folder.append(batch(number), **COST)
    return folder


def everything(folder: SampleFolder) -> FilteredCrystals:
    return FilteredCrystals.concatenate([shard.read() for shard in folder.shards()])


def assert_equal(one: FilteredCrystals, other: FilteredCrystals) -> None:
    assert one.crystals == other.crystals
    assert np.array_equal(one.indices, other.indices)
    assert dict(one.reasons) == dict(other.reasons)


def file_bytes(folder: SampleFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.samples.iterdir()}


def test_crystals_come_back_in_order_from_merged_and_single_batches(tmp_path: Path, small_shards: None) -> None:
    folder = filled(tmp_path, 8)
    assert sorted(file_bytes(folder)) == ["000000.parquet", "000003.parquet", "000006.parquet", "000007.parquet"]
    assert [(s.first_batch, s.num_batches, s.first_row, s.num_rows) for s in folder.shards()] == [
        (0, 3, 0, 15),
        (3, 3, 15, 15),
        (6, 1, 30, 5),
        (7, 1, 35, 5),
    ]
    assert_equal(everything(folder), FilteredCrystals.concatenate([batch(number) for number in range(8)]))


def test_the_index_column_counts_through_all_shards(tmp_path: Path, small_shards: None) -> None:
    import pyarrow.parquet as pq

    folder = filled(tmp_path, 5)
    index = np.concatenate([pq.read_table(shard.path)["index"].to_numpy() for shard in folder.shards()])
    assert np.array_equal(index, np.arange(25))


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip", "empty"])
@pytest.mark.parametrize("victim", ["000000.parquet", "000006.parquet"])
def test_a_damaged_shard_is_found_and_its_batches_are_made_again(
    damage: str, victim: str, tmp_path: Path, small_shards: None
) -> None:
    folder = filled(tmp_path, 8)
    before = file_bytes(folder)
    path = folder.samples / victim
    content = path.read_bytes()
    damaged = {"truncate": content[:-20], "delete": None, "flip": bytes([content[0] ^ 1]) + content[1:], "empty": b""}
    if damaged[damage] is None:
        path.unlink()
    else:
        path.write_bytes(damaged[damage] or b"")
    again = SampleFolder(tmp_path, 5)
    missing = again.recover()
    assert missing == ([0, 1, 2] if victim == "000000.parquet" else [6])
    for number in missing:
        assert again.restore(number, batch(number))
    assert file_bytes(again) == before
    assert len(again.batches) == 8


def test_crystals_that_cannot_be_made_again_are_replaced_and_said_to_be_others(tmp_path: Path) -> None:
    folder = filled(tmp_path, 2)
    (folder.samples / "000001.parquet").unlink()
    again = SampleFolder(tmp_path, 5)
    assert again.recover() == [1]
    assert not again.restore(1, batch(99))
    assert SampleFolder(tmp_path, 5).recover() == []
    with pytest.raises(ValueError, match="had 5 crystals, not 4"):
        again.restore(1, batch(1, size=4))


def test_a_flipped_bit_in_the_data_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """One bit in each of 60 bytes of the pages: no wrong number is read in silence."""
    folder = filled(tmp_path, 1)
    path = folder.samples / "000000.parquet"
    whole, expected = path.read_bytes(), everything(folder)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")  # has no checksum; `recover` compares SHA-256
    noticed = 0
    for place in np.linspace(4, footer - 1, 60).astype(int):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            found = read_shard(path)
        except ValueError:
            noticed += 1
        else:
            assert_equal(found, expected)  # a bit that no number depends on: of statistics, say
    assert noticed > 30
    assert SampleFolder(tmp_path, 5).recover() == [0]


def test_a_reader_names_the_file_that_is_damaged(tmp_path: Path) -> None:
    folder = filled(tmp_path, 3)
    path = folder.samples / "000001.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000001\.parquet: missing or damaged"):
        list(SampleFolder(tmp_path, 5).shards())
    with pytest.raises(ValueError, match=r"000001\.parquet: damaged"):
        read_shard(path)


def test_a_torn_last_line_of_the_journal_costs_that_batch_only(tmp_path: Path) -> None:
    folder = filled(tmp_path, 3)
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30])
    again = SampleFolder(tmp_path, 5)
    assert again.recover() == []
    assert len(again.batches) == 2
    assert sorted(file_bytes(folder)) == ["000000.parquet", "000001.parquet"]
    again.append(batch(2), **COST)
    assert_equal(
        everything(SampleFolder(tmp_path, 5)), FilteredCrystals.concatenate([batch(number) for number in range(3)])
    )


def test_a_journal_that_something_else_changed_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(lines[0] + b"rubbish\n" + lines[2])
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        SampleFolder(tmp_path, 5).recover()
    (tmp_path / JOURNAL).write_bytes(lines[0] + lines[2])
    with pytest.raises(ValueError, match="batches are missing"):
        SampleFolder(tmp_path, 5).recover()


def test_the_same_batches_give_the_same_bytes(tmp_path: Path, small_shards: None) -> None:
    assert file_bytes(filled(tmp_path / "a", 7)) == file_bytes(filled(tmp_path / "b", 7))


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code catches it."""


def kill_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises at the n-th write to the disk, just before it or between its bytes and its name."""
    calls = 0

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def wrapper(*arguments: object) -> None:
            nonlocal calls
            calls += 1
            if calls == call:
                raise Killed
            real(*arguments)

        return wrapper

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(os, "replace", counted(os.replace))


def test_a_kill_at_any_write_leaves_a_folder_that_ends_as_if_nothing_had_been(
    tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = file_bytes(filled(tmp_path / "whole", 7))
    for call in range(1, 200):
        path = tmp_path / str(call)
        finished = False
        with monkeypatch.context() as patch:
            kill_at(call, patch)
            try:
                filled(path, 7)
                finished = True
            except Killed:
                pass
        folder = SampleFolder(path, 5)
        for number in folder.recover():
            assert folder.restore(number, batch(number))
        for number in range(len(folder.batches), 7):
            folder.append(batch(number), **COST)
        assert file_bytes(folder) == whole, call
        if finished:
            assert call > 20
            return
    raise AssertionError("more writes than expected")


def test_nothing_half_written_takes_the_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*file\.json'"):
        write_bytes(path, b"x" * 10)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_json_never_holds_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_lines_survive_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, {"a": 1})
    with open(path, "ab") as file:
        file.write(b'{"a": ')
    assert read_lines(path) == [{"a": 1}]
    mend_lines(path)
    append_line(path, {"a": 2})
    assert read_lines(path) == [{"a": 1}, {"a": 2}]


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.atomic import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])): pass"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with folder_lock(tmp_path):
        other = subprocess.run(command, env=environment, capture_output=True, text=True)
        with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()}"), folder_lock(tmp_path):
            pass
    assert other.returncode != 0
    assert f"in use by process {os.getpid()} on" in other.stderr
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0


def test_a_folder_that_holds_something_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="not empty and holds no run"):
        create_folder(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="holds a run already"):
        create_folder(tmp_path)
    with pytest.raises(ValueError, match="its format is 99"):
        Run.open(tmp_path)
    with pytest.raises(ValueError, match="no run there"):
        Run.open(tmp_path / "elsewhere")


def test_the_newest_run_is_the_one_written_last(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run below"):
        newest_run(tmp_path)
    for age, name in ((100, "old"), (10, "new"), (50, "middle")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
        os.utime(tmp_path / name / "manifest.json", (1e9 - age, 1e9 - age))
    assert newest_run(tmp_path).name == "new"


def test_parts_of_what_was_asked_for_keep_their_places() -> None:
    whole = FilteredCrystals.concatenate([batch(0), batch(1)])
    assert whole.requested == 10
    part = whole.rows(4, 7)
    assert part.indices.tolist() == [0, 2]
    assert dict(part.reasons) == {1: "nothing came of it in batch 1"}
    assert part.crystals == Crystals.concatenate([batch(0).crystals[3], batch(1).crystals[0]])
    assert whole.rows(5, 5).requested == 0
