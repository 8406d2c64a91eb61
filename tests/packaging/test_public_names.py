"""The page that says what is public names what there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from bench import registry
from bench.datasets import files

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api-stability.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(bench(?:\.\w+)+)`", PAGE)))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError:
        found = getattr(importlib.import_module(module), attribute)
    assert found.__doc__


def test_the_entry_points_that_the_page_names_are_those_that_are_read() -> None:
    read = [registry.ENTRY_POINTS, registry.TASK_ENTRY_POINTS, registry.TRAINABLE_ENTRY_POINTS, files.ENTRY_POINTS]
    line = next(line for line in PAGE.splitlines() if "entry points" in line)
    assert [group for group in read if group not in line and f"`.{group.partition('.')[2]}`" not in line] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_and_make_targets_of_pages_for_contributors_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in links if not (ROOT / target).exists()] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        word for named in re.findall(r"(?m)^make ([a-z ]+)|`make ([a-z ]+)`", text) for word in " ".join(named).split()
    }
    assert [target for target in sorted(targets) if not re.search(rf"(?m)^{target}:", makefile)] == []


def test_the_workflow_of_github_runs_what_ci_runs() -> None:
    import yaml

    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["ci"]["steps"]]
