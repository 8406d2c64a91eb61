"""A file of crystals beside models that sample: what it cost is what its author says, or a dash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.crystal_io import write_crystals
from bench.model_specs import file_model, parse_models, with_meta
from bench.sampling.file_costs import FileCosts
from bench.sampling.sources import FileSource
from bench.store import Run
from tests.bench.crystal_examples import eval_gen, some_crystals
from tests.bench.fake_generators import random_crystals
from tests.command_line import bench

SCORED = ["--dataset", "perov5", "--tasks", "validity", "--workers", "1"]
COSTS = {"sampling_seconds": 16.0, "steps": 500, "network_evaluations": 1000}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with mine.zip of eight crystals and meta.json, which is the current one."""
    write_crystals(random_crystals(8, 0), tmp_path / "mine.zip")
    (tmp_path / "meta.json").write_text(json.dumps(COSTS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def metrics(run: str, model: str) -> dict:
    return Run.open(Path(run)).summary()["models"][model]["metrics"]


@pytest.mark.usefixtures("mine")
def test_a_file_stands_beside_a_model_that_samples_with_the_costs_that_meta_gives_it() -> None:
    models = ["--models", "fake_generators:Fake,mine=mine.zip,other=mine.zip", "--num-samples", "5"]
    assert bench("run", *models, "--meta", "mine=meta.json", *SCORED, "--out", "r") == 0
    assert metrics("r", "fake")["seconds_per_crystal"]["value"] > 0
    said = metrics("r", "mine")
    assert {name: said[name]["value"] for name in ("seconds_per_crystal", "steps", "network_evaluations")} == {
        "seconds_per_crystal": 2.0,
        "steps": 500,
        "network_evaluations": 1000,
    }
    assert said["seconds_per_crystal"]["low"] is None, "one figure for all crystals has no interval"
    assert metrics("r", "other")["seconds_per_crystal"]["value"] is None
    rows = {row.split(",")[1]: row for row in Path("r/report/table1.csv").read_text().splitlines()}
    assert "2.0" in rows["mine"]
    assert bench("run", "--resume", "r") == 0


@pytest.mark.usefixtures("mine")
def test_beside_seconds_to_spend_a_file_is_said_to_be_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = ["--models", "fake_generators:Fake,mine=mine.zip,other=mine.zip", "--budget", "0.2s"]
    assert bench("run", *models, "--meta", "mine=meta.json", *SCORED, "--out", "r") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "in 0.2 device seconds each" in said.partition("; mine: ")[0].rpartition("run r: fake ")[2]
    assert "mine: all 8 crystals of its file, whatever the budget, made in 16.0 device seconds" in said
    assert "other: all 8 crystals of its file, whatever the budget." in said


@pytest.mark.usefixtures("mine")
def test_a_number_of_samples_takes_that_many_of_a_file_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "--models", "mine=mine.zip", "--num-samples", "3", *SCORED, "--out", "r") == 0
    assert "mine: the first 3 of the 8 crystals of its file, as --num-samples says" in capsys.readouterr().err
    assert Run.open(Path("r")).folders("mine")[0].first_rows[-1] == 3
    assert bench("run", "--resume", "r") == 0
    assert Run.open(Path("r")).folders("mine")[0].first_rows[-1] == 3
    assert bench("run", "--models", "mine=mine.zip", "--num-samples", "30", *SCORED, "--out", "more") == 0
    assert Run.open(Path("more")).folders("mine")[0].first_rows[-1] == 8


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("meta", ["meta.json", "mine=meta.json"])
def test_score_takes_meta_with_and_without_a_name(meta: str) -> None:
    assert bench("score", "mine.zip", "--meta", meta, *SCORED, "--out", "r") == 0
    assert metrics("r", "mine")["seconds_per_crystal"]["value"] == 2.0


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("meta", "says"),
    [
        (["x=meta.json"], "no file x=meta.json"),
        (["mine=nothing.json"], "no file nothing.json"),
        (["mine=meta.json", "mine=meta.json"], "mine has one already"),
    ],
)
def test_a_meta_that_fits_no_file_is_one_line(meta: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [option for text in meta for option in ("--meta", text)]
    assert bench("score", "mine.zip", *options, *SCORED) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --meta")
    assert says in line


@pytest.mark.usefixtures("mine")
def test_a_model_that_samples_takes_no_meta_and_two_files_need_names() -> None:
    with pytest.raises(ValueError, match="crysldm samples here, which measures"):
        with_meta(parse_models("mine=mine.zip,crysldm"), ["crysldm=meta.json"])
    with pytest.raises(ValueError, match="write NAME=FILE, NAME being one of a, b"):
        with_meta(parse_models("a=mine.zip,b=mine.zip"), ["meta.json"])


@pytest.mark.usefixtures("mine")
def test_costs_changed_under_a_run_are_told_when_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("score", "mine.zip", "--meta", "meta.json", *SCORED, "--out", "r") == 0
    for file in Path("r/mine").rglob("*"):
        if file.name.startswith(("state", "batches")):
            file.unlink()
    Path("meta.json").write_text(json.dumps({**COSTS, "steps": 5}))
    capsys.readouterr()
    assert bench("run", "--resume", "r") == 2
    assert "steps: 500 -> 5" in capsys.readouterr().err


def test_crystals_that_were_asked_for_and_are_not_in_the_file_count_as_lost(mine: Path) -> None:
    (mine / "meta.json").write_text(json.dumps({**COSTS, "num_samples": 10}))
    assert bench("score", "mine.zip", "--meta", "meta.json", *SCORED, "--out", "r") == 0
    entry = Run.open(mine / "r").summary()["models"]["mine"]
    assert entry["requested"] == 10
    assert entry["ledger"]["parsed"] == 8
    assert entry["metrics"]["seconds_per_crystal"]["value"] == pytest.approx(1.6)
    (mine / "meta.json").write_text('{"num_samples": 7}')
    with pytest.raises(ValueError, match=r"num_samples is 7, but .*mine\.zip holds 8 crystals"):
        FileSource.read(mine / "mine.zip", mine / "meta.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"seconds": 1}', "unknown key 'seconds'; known are steps"),
        ('{"steps": -1}', "steps is -1, not a number >= 0"),
        ('{"steps": true}', "not a number"),
        ('{"sampling_seconds": NaN}', "not a number"),
        ('{"num_samples": 1.5}', "not a whole number"),
        ('{"measured": "by hand"}', "not an object"),
        ("[]", "holds list, not an object"),
        ("{", "not JSON"),
    ],
)
def test_costs_that_are_none_are_named(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(content)
    with pytest.raises(ValueError, match=says):
        FileCosts.read(tmp_path / "meta.json")


def test_the_seconds_that_an_eval_gen_file_notes_are_taken_unless_meta_says_others(tmp_path: Path) -> None:
    content = {key: torch.stack([value] * 2) for key, value in eval_gen(some_crystals([2, 3])).items()}
    torch.save({**content, "time": 12.0}, tmp_path / "eval_gen.pt")  # of both evaluations
    assert FileSource.read(tmp_path / "eval_gen.pt").draw(0, 0, 0, 2).seconds == 6.0
    (tmp_path / "meta.json").write_text('{"sampling_seconds": 4.0}')
    assert FileSource.read(tmp_path / "eval_gen.pt", tmp_path / "meta.json").draw(0, 0, 0, 1).seconds == 2.0


def test_a_file_model_without_meta_says_nothing_of_its_cost(mine: Path) -> None:
    assert file_model(mine / "mine.zip").meta is None
    assert FileSource.read(mine / "mine.zip").costs.to_json() == {}
