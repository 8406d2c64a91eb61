"""A run leaves what was promised, and what a generator, a file or a task does wrong is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import fake_generators
import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_tasks import FakeValidity

from bench.crystal_io import write_crystals
from bench.interfaces import Task
from bench.model_specs import file_model
from bench.runner import Outcome, Plan, resume, run
from bench.sampling.sources import batch_seed
from bench.scoring import tables as scoring
from bench.store import Run
from tests.bench.fake_runs import kept, model_summary, plan

pytestmark = pytest.mark.usefixtures("fakes")


def test_a_run_leaves_what_the_design_promises(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r")
    stored = Run.open(tmp_path / "r")
    assert stored.models == ["fake"]
    assert sorted(stored.tasks) == ["novelty", "validity"]
    table = stored.task_table("fake", "validity")
    assert table["index"].to_pylist() == list(range(23))
    assert pq.read_table(tmp_path / "r" / "fake" / "batches.parquet")["num_crystals"].to_pylist() == [5, 5, 5, 5, 3]
    entry = stored.summary()["models"]["fake"]
    assert entry["requested"] == 23
    assert entry["metrics"]["network_evaluations"]["value"] == 20
    assert entry["metrics"]["steps"]["value"] == 10
    assert entry["metrics"]["overshoot_seconds"]["value"] == 0
    for name in ("sampling_seconds", "wall_seconds", "load_seconds", "warmup_seconds", "scoring_seconds"):
        assert entry["metrics"][name]["value"] >= 0
    assert entry["metrics"]["wall_seconds"]["value"] >= entry["metrics"]["sampling_seconds"]["value"]
    assert not (tmp_path / "r" / "fake" / "parts").exists()
    assert not list((tmp_path / "r").rglob("*.tmp"))


def test_each_batch_has_its_own_seed_and_a_run_is_a_function_of_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(plan(seed=seed), tmp_path / name)
    assert kept(tmp_path / "a") == kept(tmp_path / "b")
    assert kept(tmp_path / "a") != kept(tmp_path / "c")
    first = next(Run.open(tmp_path / "a").folders("fake")[0].shards()).read().crystals
    assert first == fake_generators.random_crystals(5, batch_seed(0, 0, 0))
    seeds = {batch_seed(s, r, i) for s in range(3) for r in range(3) for i in range(100)}
    assert len(seeds) == 900
    assert max(seeds) < 2**32


def test_workers_give_the_tables_that_one_process_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.scoring.tables.CHUNK_CRYSTALS", 2)
    run(plan(), tmp_path / "one")
    run(plan(workers=2), tmp_path / "two")
    assert kept(tmp_path / "one") == kept(tmp_path / "two")
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_a_task_says_how_many_crystals_it_gets_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, list[int]] = {"validity": [], "novelty": []}
    original = scoring.score_chunk

    def counted(task: Task, chunk: scoring.Chunk, part: Path) -> int:
        sizes[task.name].append(chunk.num_rows)
        return original(task, chunk, part)

    monkeypatch.setattr(scoring, "score_chunk", counted)
    monkeypatch.setattr("fake_tasks.FakeValidity.chunk_crystals", 2, raising=False)
    run(plan(), tmp_path / "r")
    assert max(sizes["validity"]) == 2
    assert max(sizes["novelty"]) > 2
    assert sum(sizes["validity"]) == sum(sizes["novelty"]) == 23


def test_what_a_task_says_of_its_figures_is_in_the_summary_and_changes_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan(), tmp_path / "before")
    monkeypatch.setattr(FakeValidity, "about", lambda self: {"error": 0.1}, raising=False)
    run(plan(), tmp_path / "after")
    before, after = (Run.open(tmp_path / name).summary() for name in ("before", "after"))
    assert before["about"] == {}
    assert after["about"] == {"validity": {"error": 0.1}}
    assert before["protocol_hash"] == after["protocol_hash"]


def test_crystals_that_are_not_finite_are_rows_with_a_reason(tmp_path: Path) -> None:
    run(plan("fake_generators:NotFinite"), tmp_path / "r")
    rows = Run.open(tmp_path / "r").task_table("not-finite", "validity").to_pylist()
    lost = [row for row in rows if row["formula"] is None]
    assert [row["index"] for row in lost] == [5 * (i // 2) + 3 * (i % 2) for i in range(10)][: len(lost)]
    assert all(row["valid"] is False and row["volume"] is None and "not finite" in row["reason"] for row in lost)
    ledger = model_summary(tmp_path / "r", "not-finite")["ledger"]
    assert ledger["requested"] == ledger["generated"] == 23
    assert ledger["parsed"] == 23 - len(lost)
    assert sum(ledger["reasons"]["parsed"].values()) == len(lost)
    assert ledger["valid"] == sum(row["valid"] for row in rows)
    assert sum(ledger["reasons"]["validity"].values()) == 23 - ledger["valid"]


def test_a_model_without_a_single_crystal_is_scored_too(tmp_path: Path) -> None:
    run(plan("fake_generators:NothingAtAll"), tmp_path / "r")
    entry = model_summary(tmp_path / "r", "nothing-at-all")
    assert entry["ledger"]["parsed"] == 0
    assert entry["metrics"]["valid"]["value"] == 0
    assert entry["metrics"]["valid"]["high"] > 0


def test_crystals_that_a_generator_owes_are_counted_as_lost(tmp_path: Path) -> None:
    run(plan("fake_generators:Short"), tmp_path / "r")
    ledger = model_summary(tmp_path / "r", "short")["ledger"]
    assert (ledger["requested"], ledger["generated"], ledger["parsed"]) == (23, 18, 18)
    assert ledger["reasons"]["parsed"] == {"the generator gave .. of .. crystals": 5}


def test_a_model_without_its_data_is_skipped_with_the_reason(tmp_path: Path) -> None:
    run(plan("fake_generators:NoData,fake_generators:Fake"), tmp_path / "r")
    summary = Run.open(tmp_path / "r").summary()
    assert summary["skipped"] == {"no-data": "Perov-5 train: not at hand"}
    assert list(summary["models"]) == ["fake"]
    resume(tmp_path / "r")
    with pytest.raises(ValueError, match="no model could run; Perov-5 train: not at hand"):
        run(plan("fake_generators:NoData"), tmp_path / "none")


def test_weights_that_cannot_be_read_leave_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="corrupt weights$"):
        run(plan("fake_generators:CorruptWeights"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_fault_in_a_generators_code_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^buggy: sampling failed: IndexError: .*go on with .*--resume"):
        run(plan("fake_generators:Buggy"), tmp_path / "r")
    assert len(Run.open(tmp_path / "r").folders("buggy")[0].batches) == 1


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two models are named 'fake'"):
        run(plan("fake_generators:Fake,fake_generators:Fake"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_repeats_have_other_seeds_and_intervals_that_know_their_spread(tmp_path: Path) -> None:
    run(plan(repeats=3), tmp_path / "r")
    run(plan(), tmp_path / "one")
    stored = Run.open(tmp_path / "r")
    files = kept(tmp_path / "r")
    assert files["fake/validity.parquet"] == kept(tmp_path / "one")["fake/validity.parquet"]
    assert (
        files["fake/validity.parquet"]
        != files["fake/repeat-1/validity.parquet"]
        != files["fake/repeat-2/validity.parquet"]
    )
    entry = stored.summary()["models"]["fake"]
    rates = [np.mean(stored.task_table("fake", "validity", repeat)["valid"].to_numpy(False)) for repeat in range(3)]
    assert entry["requested"] == 69
    assert entry["metrics"]["valid"]["value"] == pytest.approx(np.mean(rates))
    half_width = 4.303 * np.std(rates, ddof=1) / np.sqrt(3)  # Student's t with two degrees of freedom
    assert entry["metrics"]["valid"]["high"] >= min(1.0, np.mean(rates) + half_width) - 1e-3
    assert entry["ledger"]["valid"] == sum(round(23 * rate) for rate in rates)
    assert stored.batches("fake").num_rows == 15


def test_a_file_is_scored_like_a_model_and_its_cost_is_unknown(tmp_path: Path) -> None:
    crystals = fake_generators.random_crystals(7, 0)
    write_crystals(crystals, tmp_path / "mine.zip")
    run(plan(f"fake_generators:Fake,mine={tmp_path / 'mine.zip'}", repeats=2), tmp_path / "r")
    stored = Run.open(tmp_path / "r")
    entry = stored.summary()["models"]["mine"]
    assert entry["requested"] == 7
    assert stored.task_table("mine", "validity")["valid"].to_pylist() == (crystals.volumes > 64).tolist()
    for name in (
        "steps",
        "network_evaluations",
        "seconds_per_crystal",
        "sampling_seconds",
        "load_seconds",
        "wall_seconds",
    ):
        assert entry["metrics"][name]["value"] is None, name
    (tmp_path / "mine.zip").unlink()
    resume(tmp_path / "r")


def test_what_a_file_says_of_its_cost_is_taken(tmp_path: Path) -> None:
    write_crystals(fake_generators.random_crystals(8, 0), tmp_path / "mine.zip")
    meta = tmp_path / "meta.json"
    meta.write_text('{"steps": 1000, "network_evaluations": 2000, "sampling_seconds": 4.0}')
    spec = file_model(tmp_path / "mine.zip", meta=meta)
    run(Plan([spec], "perov5", workers=1), tmp_path / "r")
    metrics = model_summary(tmp_path / "r", "mine")["metrics"]
    assert metrics["steps"]["value"] == 1000
    assert metrics["network_evaluations"]["value"] == 2000
    assert metrics["seconds_per_crystal"]["value"] == pytest.approx(0.5)
    for content, message in (
        ('{"seconds": 1}', "unknown key"),
        ('{"steps": -1}', ">= 0"),
        ('{"steps": 1.5}', "whole number"),
    ):
        meta.write_text(content)
        with pytest.raises(ValueError, match=message):
            run(Plan([spec], "perov5"), tmp_path / "bad")
        assert not (tmp_path / "bad").exists()


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(plan(), tmp_path / "file" / "r")
    if os.geteuid() == 0:
        return  # root may write anywhere
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="locked"):
        run(plan(), tmp_path / "locked" / "r")


def test_a_task_that_gives_other_rows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fake_tasks

    real = fake_tasks.FakeValidity.score
    monkeypatch.setattr(fake_tasks.FakeValidity, "score", lambda self, crystals: real(self, crystals)[:-1])
    with pytest.raises(ValueError, match=r"task validity: gave 4 rows of .* for 5 crystals"):
        run(plan(), tmp_path / "r")


def test_the_outcome_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(plan())
    assert isinstance(outcome, Outcome)
    assert re.fullmatch(r"runs/\d{8}-\d{6}-fake", str(outcome.root))
    assert run(plan()).root != outcome.root
