"""README does what it says: its set-up commands, links, table and pictures. `test_docs.py` has its other commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

import make_figures

from bench.store import Run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"}
    return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_the_two_set_up_commands_stand_in_readme_and_ci_runs_them_from_there() -> None:
    commands = [run(str(ROOT / ".ci" / "readme-command"), number).stdout.strip() for number in ("1", "2")]
    assert commands == [
        "pip install -e . && python -m bench run --models crysldm,diffcsp --dataset perov5",
        "pip install -e '.[test]' && pytest",
    ]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "main_job=$(.ci/readme-command 1)" in ci
    assert "tests=$(.ci/readme-command 2)" in ci
    assert "pip install" not in ci


def test_links_of_readme_lead_to_files() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_tables_of_readme_and_of_its_page_are_those_of_the_stored_run() -> None:
    start, end = make_figures.MARKERS
    for document, section in make_figures.sections().items():
        text = document.read_text(encoding="utf-8")
        assert text.partition(start)[2].partition(end)[0].strip() == section.strip()
    assert "run perov5:" in section


def test_readme_is_short_and_its_table_has_six_columns() -> None:
    assert len(README.replace("|", " ").split()) < 800
    (header,) = (line for line in README.splitlines() if line.startswith("| Method"))
    assert header.count("|") == 7


def test_the_pictures_were_drawn_from_the_stored_run() -> None:
    made_from = json.loads(make_figures.MADE_FROM.read_text(encoding="utf-8"))
    assert made_from == {"run": make_figures.run_hash(make_figures.STORED)}, "`make figures` draws them anew"
    for picture in make_figures.PICTURES:
        content = (make_figures.FIGURES / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 300_000
        assert f"figures/{picture}" in README + make_figures.RESULTS.read_text(encoding="utf-8")


def test_the_stored_run_is_small_and_names_no_machine() -> None:
    assert make_figures.STORED.stat().st_size < 2_000_000
    sessions = Run.open(make_figures.STORED).manifest["sessions"]
    assert {(session["host"], session["pid"]) for session in sessions} == {("", 0)}


def test_pictures_are_drawn_from_an_archive(tmp_path: Path) -> None:
    make_figures.make_figures(make_figures.STORED, tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {*make_figures.PICTURES, "made_from.json"}


def test_a_section_replaces_what_stands_between_the_markers() -> None:
    start, end = make_figures.MARKERS
    assert make_figures.with_section(f"a\n{start}\nold\n{end}\nb", "new") == f"a\n{start}\nnew\n{end}\nb"
    with pytest.raises(ValueError, match="once each"):
        make_figures.with_section(f"{start} alone", "new")
