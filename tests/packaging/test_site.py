"""The documentation as a site: built strictly, complete, and read without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the `docs` extra is not installed")

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["'](?:https?:)?//[^"']+""")
OF_STYLES = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?//[^"')]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page).is_file()} == set()


def test_a_reader_without_a_network_misses_nothing(site: Path) -> None:
    found = {}
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        pattern = FETCHED if path.suffix == ".html" else OF_STYLES
        found[path.name] = pattern.findall(path.read_text(encoding="utf-8"))
    assert {name: urls for name, urls in found.items() if urls} == {}


def test_the_pictures_and_the_table_of_readme_are_on_the_first_page(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "CrysLDM, 100 steps" in home
    assert "Ab initio generation of crystals" in (site / "results.html").read_text(encoding="utf-8")
    for picture in re.findall(r"docs/(figures/\S+?\.png)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert picture in home
        assert (site / picture).is_file()


def test_the_reference_has_the_seams_and_the_options_of_commands(site: Path) -> None:
    seams = (site / "reference" / "seams.html").read_text(encoding="utf-8")
    assert "network_evaluations" in seams
    assert "check_generator" in seams
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(option in commands for option in ("--budget-covers", "--relax-limit", "--deep"))


def test_examples_are_shown_as_they_are_tested(site: Path) -> None:
    assert "SpaceGroups" in (site / "own-metric.html").read_text(encoding="utf-8")
    assert (site / "examples" / "space_groups" / "space_groups.py").is_file()
