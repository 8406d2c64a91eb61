"""The wheel as a stranger installs it: what is in it, and that it works in a fresh environment."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bench", "models", "tasks", "reports")

pytest.importorskip("build", reason="the `test` extra is not installed")
pytest.importorskip("hatchling", reason="the `test` extra is not installed")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of a fresh environment that holds the wheel; its dependencies are borrowed from this one."""
    venv = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    paths = {"base": str(venv), "platbase": str(venv)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    scripts = Path(sysconfig.get_path("scripts", "venv", vars=paths))
    # A plain path, not a site directory: .pth files in it, an editable install of this checkout say, do not count.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "install", "--no-deps", "--no-index", "-q"]
    done = subprocess.run([*pip, "--force-reinstall", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BENCH_"))}

    def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [str(scripts / program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)

    return run


def tracked_files(*folders: str) -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z", "--", *folders], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def test_the_wheel_has_every_tracked_file_of_the_four_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert tracked_files(*PACKAGES) - names == set()
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_wheel_has_nothing_but_the_four_packages(wheel: Path) -> None:
    folders = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_has_weights_and_reference_cards(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("bench/reference/") and name.endswith(".json")]
    weights = {name for name in names if name.startswith("models/shipped/") and name.endswith(".safetensors")}
    assert weights
    assert {name.replace(".safetensors", ".json") for name in weights} <= set(names)


def test_a_fresh_environment_finds_the_templates_of_the_page(installed: Run, tmp_path: Path) -> None:
    code = (
        "from reports.page.templating import _environment; _environment().get_template('page.html.j2'); print('found')"
    )
    done = installed("python", "-c", code, cwd=tmp_path)
    assert done.stdout == "found\n", done.stderr


def test_a_fresh_environment_imports_the_packages_of_the_wheel(installed: Run, tmp_path: Path) -> None:
    code = (
        "import bench, models, tasks, reports; print(*(m.__file__ for m in (bench, models, tasks, reports)), sep='\\n')"
    )
    done = installed("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for package, place in zip(PACKAGES, done.stdout.splitlines(), strict=True):
        assert Path(place).parts[-3:] == ("site-packages", package, "__init__.py")
        assert not Path(place).is_relative_to(ROOT)


def test_the_console_script_shows_its_help_in_a_fresh_environment(installed: Run, tmp_path: Path) -> None:
    done = installed("crysldm-bench", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout
    assert "report" in done.stdout


@pytest.fixture
def decoy(tmp_path: Path) -> Path:
    """A working directory with somebody else's package named models."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the decoy was imported')\n")
    return tmp_path


def test_a_foreign_package_named_models_gives_one_clear_line(installed: Run, decoy: Path) -> None:
    done = installed("python", "-m", "bench", "run", "--models", "crysldm", "--dataset", "perov5", cwd=decoy)
    assert done.returncode == 2
    assert str(decoy / "models") in done.stderr
    assert "crysldm-bench" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_console_script_is_not_misled_by_a_foreign_package(installed: Run, decoy: Path) -> None:
    done = installed("crysldm-bench", "models", cwd=decoy)
    assert done.returncode == 0, done.stderr
    assert "crysldm" in done.stdout
