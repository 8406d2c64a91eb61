"""The examples do what they say: a plug-in by module:Class and installed, a model from elsewhere, the gate in CI."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.crystal_io import read_crystals
from bench.store import Run

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PLUGIN = EXAMPLES / "perturbed_prototypes"


def run(command: str, cwd: Path, *paths: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A shell command as a reader would type it, with `python` this one and these folders on its path."""
    python = [str(path) for path in (*paths, ROOT)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(python),
        "TERM": "dumb",
        **variables,
    }
    command = re.sub(r"^python\b", shlex.quote(sys.executable), command, flags=re.MULTILINE)
    return subprocess.run(command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True)


def shell_blocks(document: Path) -> list[str]:
    """The commands of a document, lines that go on joined."""
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    return [block.replace("\\\n", " ") for block in blocks]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the plug-in, its entry point with it."""
    source, site = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(PLUGIN, source)
    command = "python -m pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check --target"
    done = run(f"{command} {shlex.quote(str(site))} {shlex.quote(str(source))}", ROOT)
    assert done.returncode == 0, done.stderr
    return site


def test_the_plug_in_is_complete_in_fewer_than_sixty_lines() -> None:
    lines = [len((PLUGIN / name).read_text().splitlines()) for name in ("perturbed_prototypes.py", "pyproject.toml")]
    assert sum(lines) < 60


def test_the_plug_in_runs_by_module_and_class_as_the_readme_types_it(tmp_path: Path) -> None:
    block = next(block for block in shell_blocks(EXAMPLES / "README.md") if "perturbed_prototypes:" in block)
    change, command = block.strip().splitlines()
    assert change == "cd examples/perturbed_prototypes"
    out = tmp_path / "r"
    done = run(
        f"{command} --tasks validity,properties --num-samples 40 --workers 1 --out {shlex.quote(str(out))}", PLUGIN
    )
    assert done.returncode == 0, done.stderr
    assert Run.open(out).summary()["models"]["perturbed-prototypes"]["metrics"]["valid"]["value"] > 0.5


def test_its_own_test_passes(tmp_path: Path) -> None:
    done = run(f"python -m pytest -q -p no:cacheprovider {shlex.quote(str(PLUGIN))}", tmp_path, PLUGIN)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_installed_it_has_the_name_of_its_entry_point(installed: Path, tmp_path: Path) -> None:
    listed = run("python -m bench models", tmp_path, installed)
    assert re.search(r"^perturbed +Perovskites or .*\(package perturbed-prototypes\)$", listed.stdout, re.MULTILINE)
    command = (
        "python -m bench run --models perturbed --dataset mp20 --tasks validity --num-samples 10 --workers 1 --out r"
    )
    done = run(command, tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert Run.open(tmp_path / "r").models == ["perturbed"]


def test_a_model_of_another_environment_is_timed_and_compared_as_the_readme_types_it(tmp_path: Path) -> None:
    block = next(block for block in shell_blocks(EXAMPLES / "README.md") if "sample-external" in block)
    sampled, compared = (
        block.replace("examples/", f"{EXAMPLES}/").replace("python /", f"{sys.executable} /").splitlines()
    )
    done = run(sampled, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(read_crystals(tmp_path / "theirs.extxyz").filtered.crystals) == 200
    fewer = (
        compared.replace("crysldm", "independent-elements") + " --tasks validity --num-samples 10 --workers 1 --out r"
    )
    done = run(fewer, tmp_path)
    assert done.returncode == 0, done.stderr
    assert Run.open(tmp_path / "r").summary()["models"]["theirs"]["metrics"]["seconds_per_crystal"]["value"] > 0


def workflow_steps() -> dict[str, str]:
    """Name -> command of the workflow's steps that run one."""
    content = yaml.safe_load((EXAMPLES / "github-workflow.yml").read_text(encoding="utf-8"))
    return {step["name"]: step["run"] for step in content["jobs"]["benchmark"]["steps"] if "run" in step}


def test_the_workflow_is_one_that_github_can_read() -> None:
    content = yaml.safe_load((EXAMPLES / "github-workflow.yml").read_text(encoding="utf-8"))
    assert set(content) == {"name", True, "jobs"}, "YAML reads the key `on` as true"
    (job,) = content["jobs"].values()
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    assert job["env"] == {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_the_workflow_passes_an_unchanged_generator_and_fails_a_worse_one(installed: Path, tmp_path: Path) -> None:
    install, *steps = workflow_steps().values()
    assert install == "pip install crysldm-bench ."  # what the fixture did with the plug-in
    conforms, sample, check = steps
    assert run(sample, tmp_path, installed).returncode == 0
    assert run("python -m bench baseline run --out baseline.json", tmp_path, installed).returncode == 0
    shutil.rmtree(tmp_path / "run")
    for step in (conforms, sample, check):
        done = run(step, tmp_path, installed)
        assert done.returncode == 0, done.stdout + done.stderr
    worse = tmp_path / "worse"
    shutil.copytree(installed, worse)
    module = worse / "perturbed_prototypes.py"
    module.write_text(module.read_text().replace("shake: float = 0.02", "shake: float = 0.3"))
    shutil.rmtree(tmp_path / "run")
    assert run(sample, tmp_path, worse).returncode == 0
    failed = run(check, tmp_path, worse)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "valid_structure" in failed.stdout
