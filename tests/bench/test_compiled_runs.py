"""`bench run --compile`: the manifest says so, and compiling counts as loading, not as sampling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli import main
from bench.store import Run, read_state
from reports.tables.costs import render

OPTIONS = ["--dataset", "perov5", "--num-samples", "2", "--tasks", "validity", "--device", "cpu", "--threads", "1"]


def bench_run(*arguments: str) -> int:
    """The exit code of `bench run`."""
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def compiled_in_12_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.generation.compile_networks", lambda networks, atoms, device, size: 12.0)


@pytest.mark.usefixtures("compiled_in_12_s")
def test_the_run_says_that_it_was_compiled_and_how_long_that_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    assert bench_run("--models", "crysldm-fast@2", *OPTIONS, "--compile", "--out", str(root)) == 0
    assert "crysldm-fast@2: compiled in 12 s" in capsys.readouterr().err
    run = Run.open(root)
    entry = run.manifest["models"]["crysldm-fast@2"]
    assert entry["spec"]["compiled"] is True
    assert entry["card"]["sampling"]["compiled"] is True
    [folder] = run.folders("crysldm-fast@2")
    assert read_state(folder.path)["compile_seconds"] == 12.0
    summary = json.loads((root / "summary.json").read_text())
    assert "compile_seconds" in json.dumps(summary)
    assert "of it compiling" in render([root])
    assert bench_run("--resume", str(root), "--compile") == 0


def test_a_plain_run_neither_holds_nor_takes_up_the_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    assert bench_run("--models", "crysldm-fast@2", *OPTIONS, "--out", str(root)) == 0
    assert "compile" not in (root / "manifest.json").read_text() + (root / "summary.json").read_text()
    assert "compiling" not in render([root])
    capsys.readouterr()
    assert bench_run("--resume", str(root), "--compile") == 2
    assert "compile: false -> true" in capsys.readouterr().err
