from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_generators import random_crystals

from bench import cli
from bench.crystal_io import read_crystals, write_crystals
from bench.crystals import Crystals
from tests.command_line import bench

HERE = Path(__file__).parent
RUN = ["run", "--models", "fake_generators:Fake", "--dataset", "perov5", "--num-samples", "12", "--workers", "1"]


@pytest.fixture
def finished(tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    assert bench(*RUN, "--out", tmp_path / "r") == 0
    capsys.readouterr()
    return tmp_path / "r"


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_imports_nothing_heavy() -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, "-X", "importtime", "-m", "bench", "--help"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert not imported & {"torch", "numpy", "pymatgen", "pyarrow", "scipy", "matplotlib", "smact"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "needs --models and --dataset"),
        (["run", "--models", "crysldn", "--dataset", "perov5"], "unknown model 'crysldn'; known are crysldm"),
        (
            ["run", "--models", "fake_generators:Fake", "--dataset", "perov6"],
            "unknown data set 'perov6'; known are perov5, mp20",
        ),
        ([*RUN, "--budget", "10m"], "either --num-samples or --budget"),
        ([*RUN[:5], "--budget", "soon"], "such as 90s, 10m or 1.5h"),
        ([*RUN, "--tasks", "speed"], "unknown task 'speed'; known are validity, novelty"),
        ([*RUN, "--tasks", ""], "a list of names is empty"),
        (["report", "nowhere", "--format", "pdf"], "is not one of 'text', 'markdown', 'csv', 'latex'"),
        ([*RUN, "--workers", "0"], "--workers 0"),
        ([*RUN, "--repeats", "0"], "--repeats 0"),
        ([*RUN, "--seed", "-1"], "--seed -1"),
        (["train", "--model", "crysldm", "--dataset", "perov5", "--out", "x", "--seed", "-1"], "--seed -1"),
        (
            [
                "sample",
                "--model",
                "crysldm",
                *["--dataset", "perov5", "--num-samples", "1", "--out", "x.zip", "--seed"],
                str(2**63),
            ],
            f"--seed {2**63}",
        ),
        ([*RUN, "--device", "tpu"], "tpu"),
        ([*RUN, "--bogus"], "--bogus"),
        (["run", "--resume", "nowhere"], "no run there"),
        (["nonsense"], "nonsense"),
        (["score", "nowhere.zip", "--dataset", "perov5"], "no file or folder nowhere.zip"),
        (["report", "nowhere"], "no run there"),
        (["check", "nowhere", "--against", "x.json"], "no such file"),
        (["baseline", "nowhere", "--out", "x.json"], "no run there"),
        (["rescore", "nowhere"], "no run there"),
        (["data", "perov6"], "unknown data set"),
        (["train", "--model", "crysldm", "--dataset", "perov5", "--max-time", "2h"], "write HH:MM:SS"),
        (
            ["sample", "--model", "crysldn", "--dataset", "perov5", "--num-samples", "1", "--out", "x.zip"],
            "unknown model",
        ),
    ],
)
def test_bad_input_is_one_line_and_exits_2(
    arguments: list[str],
    message: str,
    fakes: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench(*arguments) == 2
    assert message in error_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_trace_wherever_it_stands() -> None:
    for arguments in (["--debug", "report", "nowhere"], ["report", "nowhere", "--debug"]):
        with pytest.raises(ValueError, match="no run there"):
            cli.main(arguments)


def test_an_error_of_several_lines_is_shown_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a long\nstory")

    monkeypatch.setattr("bench.commands.report.report", fail)
    assert bench("report", "somewhere") == 2
    assert error_line(capsys) == "error: unexpected RuntimeError: a long story (--debug shows where)"


def test_a_run_can_be_resumed_rescored_and_checked_against_itself(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("run", "--resume", finished) == 0
    assert bench("run", "--resume", finished, *RUN[1:], "--out", finished) == 0
    assert bench("rescore", finished, "--tasks", "validity") == 0
    assert bench("baseline", finished, "--out", finished / "base.json") == 0
    assert bench("check", finished, "--against", finished / "base.json", "--exact", "--verbose") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("no regression")
    assert bench("run", "--resume", finished, "--seed", "3") == 2
    assert "(seed: 0 -> 3)" in error_line(capsys)


def test_a_regression_exits_1_and_a_changed_protocol_2(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = finished / "base.json"
    bench("baseline", finished, "--out", base)
    content = json.loads(base.read_text())
    content["models"]["fake"]["metrics"]["steps"]["value"] = 1.0
    base.write_text(json.dumps(content))
    assert bench("check", finished, "--against", base) == 1
    shown = capsys.readouterr().out
    assert "FAILED fake steps: 1 -> 10 (+9): worse" in shown
    assert shown.splitlines()[-1].endswith("1 failed")
    content["protocol"]["tasks"]["validity"]["version"] = "0"
    base.write_text(json.dumps(content))
    assert bench("check", finished, "--against", base) == 2
    assert "the protocol is not the same" in error_line(capsys)


def test_a_folder_that_holds_a_run_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*RUN, "--out", finished) == 2
    assert "holds a run already" in error_line(capsys)


def test_a_file_is_scored_under_its_own_name(tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_crystals(random_crystals(6, 0), tmp_path / "a,b.extxyz")
    assert bench("score", "a,b.extxyz", "--dataset", "Perov_5", "--workers", 1, "--out", "r") == 0
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert list(summary["models"]) == ["a-b"]
    assert summary["dataset"] == "perov5"
    assert summary["models"]["a-b"]["requested"] == 6


def test_samples_in_a_file_are_those_of_a_run_with_the_same_seed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.store import Run

    out = tmp_path / "deep" / "x.parquet"
    command = ["sample", "--model", "fake_generators:Fake", "--dataset", "perov5", "--num-samples", "12", "--out"]
    assert bench(*command, out) == 0
    stored = [shard.read().crystals for shard in Run.open(finished).folders("fake")[0].shards()]
    assert read_crystals(out).filtered.crystals[:5] == stored[0]
    assert len(read_crystals(out).filtered.crystals) == 12
    capsys.readouterr()
    assert bench(*command, out) == 2
    assert "exists" in error_line(capsys)
    assert bench(*command, tmp_path / "x.docx") == 2
    assert "unknown ending" in error_line(capsys)


def test_training_gets_its_options_and_a_score_of_real_metrics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fake_generators

    from bench import registry

    plugins = {**registry.PLUGINS, "trainer": {"train": "fake_generators:train"}}
    monkeypatch.setattr(registry, "PLUGINS", plugins)
    options = ["--model", "crysldm", "--dataset", "perov-5", "--max-time", "01:30:00", "--resume", "--seed", "3"]
    assert bench("train", *options) == 0
    assert capsys.readouterr().out == "weights: weights.safetensors\n"
    got = fake_generators.trained
    assert (got["model"], got["dataset"], got["preset"], got["seed"], got["resume"]) == (
        "crysldm",
        "perov-5",  # as it was typed: the trainer knows the spellings
        "cpu",
        3,
        True,
    )
    assert got["max_time"] == timedelta(minutes=90)
    metrics = got["score"](random_crystals(20, 0))  # type: ignore[operator]
    assert metrics["valid_structure"] == 1.0
    assert metrics["emd_density"] > 0
    assert got["score"](Crystals.empty()) == {}  # type: ignore[operator]


def test_models_lists_names_and_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from bench import registry

    assert bench("models") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in registry.known("generator"))
    assert "module:Class" in shown


def test_doctor_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("doctor") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("device", "threads", "torch", "perov5", "mp20", "reference card"))


def test_building_a_hull_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []

    def build(potential: str, out: Path, relax_limit: int | None, extend: bool, workers: int, on_progress: Any) -> str:
        given.extend([potential, out, relax_limit, extend, workers])
        on_progress("points", 500, 1200)
        return "built"

    monkeypatch.setattr("bench.registry.plugin", lambda kind, name: build)
    assert bench("hull", "build", "--potential", "m3gnet", "--relax-limit", "7", "--extend", "--out", "h") == 0
    assert given == ["m3gnet", Path("h"), 7, True, 2]
    shown = capsys.readouterr()
    assert shown.out == "built\n"
    assert shown.err == "m3gnet: points 500 of 1200 phases\n"
    assert bench("hull", "build", "--workers", "0") == 2
