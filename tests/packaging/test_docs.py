"""Every command that README and docs show: parsed by the real command line, and run where it does not take hours."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from pymatgen.core import Lattice, Structure

sys.path.insert(0, str(Path(__file__).parent))

from documents import DOCUMENTS, ROOT, Shown, inline_commands, names_of_examples, option, shown_commands

from bench import cli, registry
from bench.crystal_io import write_crystals
from bench.crystals import Crystals
from bench.datasets.files import DATASETS
from models.presets import PRESETS
from tasks.stability.potentials.files import BUILT_IN

APP = typer.main.get_command(cli.app)
COMMANDS = [shown for path in DOCUMENTS for shown in shown_commands(path)]
INLINE = [shown for path in DOCUMENTS for shown in inline_commands(path)]

# What is parsed but not run, and why.
NOT_RUN = {
    r"pip install -e (\.|'\.\[\w+\]')( |$)": ".ci/run does it in a fresh environment, and then runs README's commands",
    r"bench hull build": "hours",
    r"bench learn --models crysldm": "trains nine times",
    r"--tasks coverage": "fingerprints of a whole test split: minutes",
    r"tasks\.stability\.validation": "hours",
    r"pip install 'crysldm-bench\[": "this checkout is installed already",
    r"reports\.reproduction": "writes the page itself; tests/reports/test_reproduction.py does it",
    r"conda run": "an environment of somebody else",
    r"mine=predictions\.zip": "structures for a whole test split, which somebody has predicted",
    r"theirs=theirs\.extxyz .*--dataset mp20": "needs what the command before it makes, in that environment",
    r"tasks\.stability\.calibration": "needs crystals with DFT energies, and minutes",
    r"runs/two": "relaxes with two potentials; tests/reports/test_disagreements.py has such a run",
    r"--potential chgnet,chgnetase": "needs the hull that takes hours",
}


def parse(words: list[str]) -> None:
    """Raises what the command line would: no such command, no such option, a missing argument, a wrong value."""
    command = APP
    while commands := getattr(command, "commands", None):
        name, *words = words
        assert name in commands, f"no such command {name!r}; there are {', '.join(commands)}"
        command = commands[name]
    with suppress(typer.Exit):  # of --help
        command.make_context(command.name, list(words))
    known = {
        "--models": {*registry.PLUGINS["generator"], *names_of_examples("generators")},
        "--model": {*PRESETS},
        "--tasks": {*registry.PLUGINS["task"], *names_of_examples("tasks")},
        "--dataset": {*DATASETS, "perov_5", "mp_20", *names_of_examples("datasets")},
        "--potential": {*BUILT_IN, *names_of_examples("potentials")},
    }
    for name, names in known.items():
        asked = [part.partition("@")[0] for part in option(words, name) if "=" not in part and ":" not in part]
        assert set(asked) <= names, f"{name}: {set(asked) - names} is unknown"


def check(words: list[str]) -> None:
    """Raises where a simple command cannot be what a reader should type."""
    program, *rest = words
    if program in ("bench", "crysldm-bench"):
        parse(rest)
    elif program == "python" and rest[:2] == ["-m", "bench"]:
        parse(rest[2:])
    elif program == "python" and rest[0] == "-m":
        assert find_spec(rest[1]) is not None, f"no module {rest[1]}"
        if rest[1].startswith(("bench.", "tasks.", "reports.")) and len(rest) > 2 and rest[2].startswith("--"):
            helped = subprocess.run([sys.executable, "-m", rest[1], "--help"], cwd=ROOT, capture_output=True, text=True)
            assert {word for word in rest if word.startswith("--")} <= set(re.findall(r"--[a-z0-9-]+", helped.stdout))
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), f"no file {rest[0]}"
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        for target in (re.sub("^crysldm-bench", ".", word) for word in rest[1:] if re.match(r"\.|crysldm-bench", word)):
            path, _, extra = target.rstrip("]").partition("[")
            assert (ROOT / path / "pyproject.toml").is_file(), f"nothing to install in {path}"
            assert not extra or extra in extras, f"no extra {extra}"
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif program == "dask":  # `dask scheduler`, `dask worker`
        command = import_module(f"distributed.cli.dask_{rest[0]}").main
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options
    elif program == "cd":
        assert (ROOT / rest[0]).is_dir()
    else:
        assert program in ("export", "pytest"), f"{program}: not a command that docs should show"


def test_the_documents_show_commands() -> None:
    assert len(COMMANDS) > 25
    assert {shown.document for shown in COMMANDS} >= {
        "README.md",
        "docs/start.md",
        "docs/stability.md",
        "docs/steps.md",
    }


@pytest.mark.parametrize("shown", COMMANDS, ids=str)
def test_a_shown_command_is_one_that_exists_with_its_options(shown: Shown) -> None:
    for words in shown.parts():
        check(words)


@pytest.mark.parametrize("shown", INLINE, ids=str)
def test_a_command_named_in_a_sentence_exists_with_its_options(shown: Shown) -> None:
    words = shown.text.removeprefix("python -m ").split()[1:]
    command = APP
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    assert command is not APP, "no such command"
    assert not words or not hasattr(command, "commands"), f"no such command {words[0]}"
    options = {name for parameter in command.params for name in parameter.opts} | {"--help", "--debug"}
    assert set(re.findall(r"--[a-z-]+", shown.text)) <= options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], "no such command"),
        (["run", "--model", "crysldm"], "No such option"),
        (["score", "--dataset", "perov5"], "Missing argument"),
        (["run", "--models", "crysldn", "--dataset", "perov5"], "crysldn"),
        (["report", "--format", "word"], "word"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(words: list[str], message: str) -> None:
    with pytest.raises(Exception) as raised:
        parse(words)
    assert message.lower() in getattr(raised.value, "format_message", lambda: str(raised.value))().lower()


def test_no_reason_for_leaving_a_command_out_is_without_its_command() -> None:
    assert [pattern for pattern in NOT_RUN if not any(re.search(pattern, shown.text) for shown in COMMANDS)] == []


def scratch(folder: Path) -> dict[str, str]:
    """A folder like the reader's: the examples, a file of crystals and what it cost; programs that make commands small.

    Gives the environment in which a document's commands run.
    """
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("runs"))
    shutil.copytree(ROOT / "rows", folder / "rows")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"}
    cells = [Structure(Lattice.cubic(a), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]) for a in (4.1, 4.2, 4.3)]
    write_crystals(Crystals.from_structures(cells), folder / "samples.zip")
    (example,) = re.findall(r"```python\n(import.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    (folder / "mymodule.py").write_text(example)
    (folder / "meta.json").write_text('{"sampling_seconds": 93.1, "steps": 1000, "network_evaluations": 2000}')
    programs = folder / "bin"
    programs.mkdir()
    (programs / "smaller.py").write_text(
        f"import os, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom documents import make_smaller\n"
        "words = sys.argv[1:]\nif words[:2] == ['-m', 'bench']:\n    words[2:] = make_smaller(words[2:])\n"
        "os.execv(sys.executable, [sys.executable, *words])\n"
    )
    pip = "install --quiet --no-deps --no-build-isolation --disable-pip-version-check"
    texts = {
        "python": f'exec {sys.executable} {programs / "smaller.py"} "$@"',
        "bench": 'exec python -m bench "$@"',
        "pip": f'exec {sys.executable} -m pip {pip} --upgrade --target {folder / "site"} "${{@: -1}}"',
    }
    for name, text in texts.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(stat.S_IRWXU)
    paths = os.pathsep.join([str(folder / "site"), str(ROOT)])
    return {**environment, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": paths}


def run_document(document: str, folder: Path) -> None:
    """Runs the commands of a document from the first to the last in one shell, but those of NOT_RUN."""
    environment = scratch(folder)
    lines = ["set -e", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT"]  # schedulers and workers that it starts
    for shown in COMMANDS:
        if shown.document == document and not any(re.search(pattern, shown.text) for pattern in NOT_RUN):
            back = [f"cd {shlex.quote(str(folder))}"] * shown.begins  # each block begins in the reader's folder
            lines += [*back, f"echo {shlex.quote(str(shown))} >&2", shown.text]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_first_five_minutes_run_as_they_are_typed(tmp_path: Path) -> None:
    run_document("docs/start.md", tmp_path)
    assert (tmp_path / "runs" / "first" / "report" / "table1.md").is_file()
    assert (tmp_path / "runs" / "mine" / "summary.json").is_file()


@pytest.mark.nightly
@pytest.mark.parametrize("document", sorted({shown.document for shown in COMMANDS} - {"README.md", "docs/start.md"}))
def test_the_commands_of_a_document_run_as_they_are_typed(document: str, tmp_path: Path) -> None:
    run_document(document, tmp_path)


def test_the_smallest_model_runs_through_the_harness(tmp_path: Path) -> None:
    environment = scratch(tmp_path)
    (command,) = [shown.text for shown in COMMANDS if "mymodule:RandomPairs" in shown.text]
    alone = command.replace("crysldm,", "") + " --out run"
    done = subprocess.run(alone, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "random-pairs" in done.stdout
