"""The repository as it is cloned: no large files, no traces of a machine, one version, a light start."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bench

ROOT = Path(__file__).parents[2]
# Split, so that this file does not contain what it looks for.
MACHINE_PATH = re.compile(
    "(?<![A-Za-z0-9_.}-])/(" + "|".join(["work", "root", "home", "Users", "tmp", "opt", "mnt"]) + ")/[A-Za-z0-9]"
)
HEAVY = ("torch", "pymatgen", "smact", "matplotlib", "lightning", "matgl", "pandas", "scipy.stats")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_is_larger_than_eight_megabytes(tracked: list[Path]) -> None:
    assert {str(path): path.stat().st_size for path in tracked if path.stat().st_size > 8 * 2**20} == {}


def test_no_file_names_a_path_of_a_machine(tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        lines = enumerate(content.decode("utf-8").splitlines(), 1)
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for number, line in lines if MACHINE_PATH.search(line)
        ]
    assert found == []


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, bench.cli; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited
    assert cited[1] == version
    assert bench.__version__ in (version, "0+unknown")
