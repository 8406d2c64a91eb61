"""README does what it says: its commands, options, links and example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def named_commands() -> set[str]:
    return set(re.findall(r"`(?:python -m )?bench ([a-z-]+(?: build)?)", README))


def test_every_command_that_readme_names_exists() -> None:
    shown = run(sys.executable, "-m", "bench", "--help")
    assert shown.returncode == 0, shown.stderr
    assert {name for name in named_commands() if name.split()[0] not in shown.stdout.split()} == set()


@pytest.mark.parametrize("command", sorted(named_commands()))
def test_every_option_that_readme_gives_a_command_exists(command: str) -> None:
    options = {
        option
        for line in re.findall(rf"`(?:python -m )?bench {command}(?![a-z-])([^`]*)`", README)
        for option in re.findall(r"--[a-z-]+", line)
    }
    shown = run(sys.executable, "-m", "bench", *command.split(), "--help")
    assert shown.returncode == 0, shown.stderr
    assert options - set(re.findall(r"--[a-z-]+", shown.stdout)) == set()


def test_links_of_readme_lead_to_files() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_example_model_of_readme_runs_through_the_harness(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mymodule.py").write_text(example)
    done = run(
        *(sys.executable, "-m", "bench", "run", "--models", "mymodule:RandomPairs", "--dataset", "perov5"),
        *("--num-samples", "20", "--out", "run"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "random-pairs" in done.stdout
    assert (tmp_path / "run" / "report" / "table1.csv").is_file()
