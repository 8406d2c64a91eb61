"""README does what it says: its set-up commands, links, table and pictures. `test_docs.py` has its other commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_the_table_of_readme_is_that_of_the_stored_run() -> None:
    start, end = make_figures.MARKERS
    assert README.partition(start)[2].partition(end)[0].strip() == make_figures.section().strip()


def test_the_pictures_were_drawn_from_the_stored_run() -> None:
    made_from = json.loads(make_figures.MADE_FROM.read_text(encoding="utf-8"))
    assert made_from == {"run": make_figures.run_hash(make_figures.STORED)}, "`make figures` draws them anew"
    for picture in make_figures.PICTURES:
        content = (make_figures.FIGURES / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 300_000
        assert f"docs/figures/{picture}" in README


def test_the_stored_run_is_small_and_names_no_machine() -> None:
    assert make_figures.STORED.stat().st_size < 2_000_000
    sessions = Run.open(make_figures.STORED).manifest["sessions"]
    assert {(session["host"], session["pid"]) for session in sessions} == {("", 0)}


def test_pictures_are_drawn_from_an_archive_and_the_section_names_its_run(tmp_path: Path) -> None:
    text = make_figures.make_figures(make_figures.STORED, tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {*make_figures.PICTURES, "made_from.json"}
    assert make_figures.with_section(README, text).count(make_figures.MARKERS[0]) == 1
    assert "run perov5:" in text
