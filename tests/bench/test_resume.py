"""A run goes on where it was, refuses what has changed, and repairs what was damaged."""

from __future__ import annotations

from pathlib import Path

import fake_generators
import pytest

from bench.atomic import folder_lock
from bench.crystal_io import write_crystals
from bench.errors import Interrupted
from bench.interfaces import SampleBatch
from bench.rescoring import Rescoring, rescore
from bench.runner import resume, run
from bench.store import Run
from tests.bench.fake_runs import kept, model_summary, plan

pytestmark = pytest.mark.usefixtures("fakes")


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
        rescore(tmp_path / "r", Rescoring(["novelty"]))
    rescore(tmp_path / "r", Rescoring(["validity"]))
    stored = Run.open(tmp_path / "r")
    assert kept(tmp_path / "r") == before
    assert stored.manifest["protocol"]["tasks"]["validity"]["version"] == "2"
    assert stored.summary()["protocol_hash"] == stored.manifest["protocol_hash"] != hash_before
    resume(tmp_path / "r")


def test_rescoring_keeps_costly_figures_where_they_are_still_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TASK_VERSION", "other volumes")
    run(plan(), tmp_path / "others")
    monkeypatch.setenv("FAKE_TASK_VERSION", "1")
    run(plan(), tmp_path / "r")
    before = Run.open(tmp_path / "r").task_table("fake", "validity")
    monkeypatch.setenv("FAKE_TASK_VERSION", "2")
    monkeypatch.setattr("fake_tasks.FakeValidity.score", None)  # nothing is scored any more
    rescore(tmp_path / "r", Rescoring(["validity"], keep_energies=True), workers=1)
    assert Run.open(tmp_path / "r").task_table("fake", "validity") == before
    assert Run.open(tmp_path / "r").manifest["protocol"]["tasks"]["validity"]["version"] == "2"
    with pytest.raises(ValueError, match="fake: validity: its volumes are others; rescore without --keep-energies"):
        rescore(tmp_path / "others", Rescoring(["validity"], keep_energies=True))
    assert Run.open(tmp_path / "others").summary()
    with pytest.raises(ValueError, match="none of novelty has energies in this run that could be kept"):
        rescore(tmp_path / "r", Rescoring(["novelty"], keep_energies=True))


def test_rescoring_adds_a_task_that_the_run_did_not_have(tmp_path: Path) -> None:
    run(plan(tasks=["validity"]), tmp_path / "r")
    assert "unique_rate" not in model_summary(tmp_path / "r", "fake")["metrics"]
    rescore(tmp_path / "r", Rescoring(["novelty"]))
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
