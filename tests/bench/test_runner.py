from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_generators
import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_tasks import FakeValidity

from bench.atomic import folder_lock
from bench.budget import Budget, MonotonicClock
from bench.commands.report import write_reports
from bench.crystal_io import write_crystals
from bench.interfaces import SampleBatch, Task
from bench.registry import file_model, parse_models
from bench.runner import Interrupted, Outcome, Plan, rescore, resume, run
from bench.sampling.sources import batch_seed
from bench.scoring import tables as scoring
from bench.store import Run

HERE = Path(__file__).parent
pytestmark = pytest.mark.usefixtures("fakes")


def plan(models: str = "fake_generators:Fake", **options: Any) -> Plan:
    chosen = {"budget": Budget(num_samples=23), "workers": 1, "device": "cpu", "threads": 1, **options}
    return Plan(parse_models(models), "perov5", **chosen)


def kept(root: Path) -> dict[str, bytes]:
    """What must not depend on kills and resumes: crystals and task tables."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*.parquet")
        if path.name != "batches.parquet"
    }


def model_summary(root: Path, model: str) -> dict[str, Any]:
    return json.loads((root / "summary.json").read_text())["models"][model]  # type: ignore[no-any-return]


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


def test_a_complete_run_resumes_without_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(plan(), tmp_path / "r")
    before = kept(tmp_path / "r")
    monkeypatch.delattr(fake_generators, "Fake")
    resume(tmp_path / "r")
    assert kept(tmp_path / "r") == before


def interrupted_run(root: Path, monkeypatch: pytest.MonkeyPatch, after: int = 3) -> None:
    calls = 0
    real = fake_generators.Fake.sample

    def sample(self: fake_generators.Fake, num_crystals: int, seed: int) -> SampleBatch:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return real(self, num_crystals=num_crystals, seed=seed)

    with monkeypatch.context() as patch:
        patch.setattr(fake_generators.Fake, "sample", sample)
        with pytest.raises(Interrupted, match=rf"interrupted; go on with `python -m bench run --resume {root}`"):
            run(plan(), root)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(tmp_path / "r", monkeypatch)
    assert len(Run.open(tmp_path / "r").folders("fake")[0].batches) == 2
    with pytest.raises(ValueError, match="the run is not finished"):
        Run.open(tmp_path / "r").summary()
    with pytest.raises(ValueError, match="not sampled to its end"):
        rescore(tmp_path / "r")
    resume(tmp_path / "r")
    run(plan(), tmp_path / "whole")
    assert kept(tmp_path / "r") == kept(tmp_path / "whole")
    assert len(Run.open(tmp_path / "r").manifest["sessions"]) == 2


def test_other_weights_are_refused_on_resume_and_the_difference_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_run(tmp_path / "r", monkeypatch)
    monkeypatch.setenv("FAKE_WEIGHTS", "xyz")
    with pytest.raises(
        ValueError, match=r'weights or settings of fake is not the same \(sha256: "abc" -> "xyz"\); start a new run$'
    ):
        resume(tmp_path / "r")


def test_another_training_split_is_refused_on_resume_and_the_difference_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tmp_path / "data" / "perov_5" / "train.csv"
    train.parent.mkdir(parents=True)
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "data"))
    train.write_text("material_id,cif\n1,data_\n")
    interrupted_run(tmp_path / "r", monkeypatch)
    before = Run.open(tmp_path / "r").manifest["data"]["train"]
    train.write_text("material_id,cif\n2,data_\n")
    with pytest.raises(ValueError, match=rf'the data at hand is not the same \(train: "{before}" -> "[0-9a-f]+"\)'):
        resume(tmp_path / "r")
    train.unlink()
    resume(tmp_path / "r")


def test_another_protocol_is_refused_on_resume_and_taken_by_rescoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan(), tmp_path / "r")
    before, hash_before = kept(tmp_path / "r"), Run.open(tmp_path / "r").manifest["protocol_hash"]
    monkeypatch.setenv("FAKE_TASK_VERSION", "2")
    with pytest.raises(ValueError, match=r'the protocol is not the same \(tasks.validity.version: "1" -> "2"\)'):
        resume(tmp_path / "r")
    with pytest.raises(ValueError, match="add validity to --tasks"):
        rescore(tmp_path / "r", ["novelty"])
    rescore(tmp_path / "r", ["validity"])
    stored = Run.open(tmp_path / "r")
    assert kept(tmp_path / "r") == before
    assert stored.manifest["protocol"]["tasks"]["validity"]["version"] == "2"
    assert stored.summary()["protocol_hash"] == stored.manifest["protocol_hash"] != hash_before
    resume(tmp_path / "r")


def test_rescoring_adds_a_task_that_the_run_did_not_have(tmp_path: Path) -> None:
    run(plan(tasks=["validity"]), tmp_path / "r")
    assert "unique_rate" not in model_summary(tmp_path / "r", "fake")["metrics"]
    rescore(tmp_path / "r", ["novelty"])
    assert {"valid", "unique_rate"} <= set(model_summary(tmp_path / "r", "fake")["metrics"])
    run(plan(), tmp_path / "both")
    assert kept(tmp_path / "r") == kept(tmp_path / "both")


def test_options_beside_resume_must_be_the_runs_own(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r")
    resume(
        tmp_path / "r",
        given={"models": "fake_generators:Fake", "seed": 0, "budget": {"num_samples": 23}, "tasks": None},
    )
    with pytest.raises(ValueError, match=r"what is asked for is not the same \(seed: 0 -> 1\)"):
        resume(tmp_path / "r", given={"seed": 1})


def test_a_damaged_shard_is_sampled_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(plan(), tmp_path / "r")
    before = kept(tmp_path / "r")
    shard = tmp_path / "r" / "fake" / "samples" / "000002.parquet"
    shard.write_bytes(shard.read_bytes()[:50])
    resume(tmp_path / "r")
    assert "sampled 1 of 5 batches again" in capsys.readouterr().err
    assert kept(tmp_path / "r") == before


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_a_damaged_table_is_named_by_readers_and_scored_again(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(plan(), tmp_path / "r")
    before = kept(tmp_path / "r")
    table = tmp_path / "r" / "fake" / "validity.parquet"
    content = table.read_bytes()
    flipped = content[:60] + bytes([content[60] ^ 16]) + content[61:]
    table.write_bytes(content[:-100] if damage == "truncated" else flipped)
    with pytest.raises(ValueError, match=r"validity\.parquet: damaged .* --tasks validity` writes it anew"):
        Run.open(tmp_path / "r").task_table("fake", "validity")
    resume(tmp_path / "r")
    assert "validity.parquet: damaged; scored again" in capsys.readouterr().err
    assert kept(tmp_path / "r") == before


@pytest.mark.parametrize("models", ["fake_generators:Fake", "mine=mine.zip"])
def test_a_journal_that_lost_its_last_line_costs_that_batch_even_of_a_complete_run(
    models: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_crystals(fake_generators.random_crystals(7, 0), tmp_path / "mine.zip")
    run(plan(models), tmp_path / "r")
    before = kept(tmp_path / "r")
    [journal] = (tmp_path / "r").glob("*/batches.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])
    resume(tmp_path / "r")
    assert kept(tmp_path / "r") == before


def test_a_journal_that_something_else_cut_is_refused_and_no_crystal_is_deleted(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r")
    before = kept(tmp_path / "r")
    journal = tmp_path / "r" / "fake" / "batches.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(ValueError, match=r"ends after 2 batches, but 000002\.parquet and 2 more are there"):
        resume(tmp_path / "r")
    assert kept(tmp_path / "r") == before


def test_a_damaged_state_says_what_is_lost_without_it(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r")
    before = kept(tmp_path / "r")
    state = tmp_path / "r" / "fake" / "state.json"
    state.write_text("")
    with pytest.raises(ValueError, match=r"state\.json: not JSON .*; without it, the times .* are lost, no more"):
        resume(tmp_path / "r")
    state.unlink()
    resume(tmp_path / "r")
    assert kept(tmp_path / "r") == before


def test_a_file_that_changed_is_refused_on_resume(tmp_path: Path) -> None:
    write_crystals(fake_generators.random_crystals(7, 0), tmp_path / "mine.zip")
    run(plan(f"mine={tmp_path / 'mine.zip'}"), tmp_path / "r")
    (tmp_path / "r" / "mine" / "samples" / "000000.parquet").unlink()
    write_crystals(fake_generators.random_crystals(7, 1), tmp_path / "mine.zip")
    with pytest.raises(ValueError, match=r"mine.zip is not the same \(sha256"):
        resume(tmp_path / "r")


def test_a_second_process_on_a_run_is_refused(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r")
    with folder_lock(tmp_path / "r"):
        for function in (resume, rescore):
            with pytest.raises(ValueError, match="is in use by process"):
                function(tmp_path / "r")


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(plan(), tmp_path / "file" / "r")
    if os.geteuid() == 0:
        return  # root may write anywhere
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="locked"):
        run(plan(), tmp_path / "locked" / "r")


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


def test_a_task_that_gives_other_rows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fake_tasks

    real = fake_tasks.FakeValidity.score
    monkeypatch.setattr(fake_tasks.FakeValidity, "score", lambda self, crystals: real(self, crystals)[:-1])
    with pytest.raises(ValueError, match=r"task validity: gave 4 rows of .* for 5 crystals"):
        run(plan(), tmp_path / "r")


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
from bench import registry
from bench.budget import Budget
from bench.runner import Plan, run
from fake_bench import FAKE_PLUGINS
registry.PLUGINS = FAKE_PLUGINS
models = registry.parse_models("fake_generators:" + sys.argv[1])
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


def test_the_outcome_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(plan())
    assert isinstance(outcome, Outcome)
    assert re.fullmatch(r"runs/\d{8}-\d{6}-fake", str(outcome.root))
    assert run(plan()).root != outcome.root
