"""What a user may do wrong, through the command line and with the real tasks: one line, exit 2, nothing lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.store import Run
from tests.command_line import bench

ROOT = Path(__file__).parents[2]
SCORED = ["--dataset", "perov5", "--tasks", "validity", "--workers", "1"]
RUN = ["run", "--models", "fake_generators:Fake", "--num-samples", "40", *SCORED]
Sites = Sequence[tuple[str, float, float, float]]


def cif(length: object, sites: Sites) -> str:
    cell = "".join(f"_cell_length_{axis} {length}\n" for axis in "abc")
    cell += "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
    columns = "".join(f" _atom_site_{name}\n" for name in ("type_symbol", "label", "fract_x", "fract_y", "fract_z"))
    rows = "".join(f" {symbol} {symbol}{i} {x} {y} {z}\n" for i, (symbol, x, y, z) in enumerate(sites))
    return f"data_x\n{cell}loop_\n{columns}{rows}"


def scattered(num_atoms: int) -> Sites:
    return [("Si", x, y, z) for x, y, z in np.random.default_rng(0).random((num_atoms, 3)).round(4).tolist()]


SALT: Sites = [("Na", 0, 0, 0), ("Cl", 0.5, 0.5, 0.5)]
FILES = {  # name -> content and what its row says; None: a crystal
    "0-salt.cif": (cif(4.0, SALT), None),
    "1-empty.cif": ("", "is empty"),
    "2-nan.cif": (cif("nan", SALT), "_cell_length_a is 'nan', not a number"),
    "3-one-atom.cif": (cif(3.0, [("Fe", 0, 0, 0)]), None),
    "4-many-atoms.cif": (cif(20.0, scattered(300)), None),
    "5-one-place.cif": (cif(4.0, [("Na", 0, 0, 0), ("Cl", 0, 0, 0)]), "atom sites 1 and 2 are one"),
    "6-unknown.cif": (cif(4.0, [("Xx", 0, 0, 0), ("Cl", 0.5, 0.5, 0.5)]), "of type 'Xx' is no element"),
}


def start(
    arguments: Sequence[object], cwd: Path, prepare: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """A bench of its own process, which finds the fake generators."""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, preexec_fn=prepare)


def test_each_hostile_file_of_a_folder_has_a_row_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    for name, (content, _) in FILES.items():
        (tmp_path / "mine" / name).write_text(content)
    assert bench("score", tmp_path / "mine", *SCORED, "--out", tmp_path / "r") == 0
    rows = Run.open(tmp_path / "r").task_table("mine", "validity").to_pylist()
    assert len(rows) == len(FILES)
    for row, (name, (_, reason)) in zip(rows, FILES.items(), strict=True):
        assert (row["formula"] is None) == (reason is not None), name
        if reason is not None:
            assert name in row["reason"]
            assert reason.lower() in row["reason"].lower()
            assert not row["valid"]
    assert rows[0]["valid"]
    assert rows[3]["min_distance"] is None
    assert "mine: 4 of 7 are no crystals" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", [name for name, (_, reason) in FILES.items() if reason])
def test_a_file_without_any_crystal_is_one_line_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, reason = FILES[name]
    (tmp_path / name).write_text(content)
    assert bench("score", tmp_path / name, *SCORED, "--out", tmp_path / "r") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(reason).lower() in line.lower()
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["x.zip", "x.parquet", "x.extxyz", "x.json", "x.csv", "x.pt"])
def test_an_empty_file_of_any_kind_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).touch()
    assert bench("score", tmp_path / name, *SCORED, "--out", tmp_path / "r") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / name}: ")
    assert "unexpected" not in line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("command", [["report"], ["rescore"], ["run", "--resume"], ["baseline", "--out", "b.json"]])
@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"format": 0}', '{"format": 1}'])
def test_a_damaged_manifest_is_named(
    command: list[str], manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    assert bench(*command, tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}")
    assert "unexpected" not in line


def test_an_out_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for out, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "r", "Not a directory")):
        assert bench(*RUN, "--out", out) == 2
        assert capsys.readouterr().err == f"error: {out}: {reason}\n"


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    command = [*RUN, "--num-samples", "200", "--tasks", "properties", "--out"]
    whole = start([*command, "whole"], tmp_path)
    assert whole.returncode == 0, whole.stderr
    room = (tmp_path / "whole" / "manifest.json").stat().st_size + 1000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    full = start([*command, "r"], tmp_path, limit)
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith("error: r/fake/batches.jsonl: File too large; what is complete")
    kept = len(Run.open(tmp_path / "r").folders("fake")[0].batches)
    assert 0 < kept < 40
    again = start(["run", "--resume", "r"], tmp_path)
    assert again.returncode == 0, again.stderr
    metrics = [json.loads((tmp_path / run / "summary.json").read_text())["models"]["fake"] for run in ("r", "whole")]
    assert metrics[0]["metrics"]["emd_density"] == metrics[1]["metrics"]["emd_density"]


def test_a_foreign_package_named_models_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('imported')\n")
    for command in (["models"], ["run", "--models", "crysldm", "--dataset", "perov5"], ["report", "."]):
        done = start(command, tmp_path)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: another package named 'models' ({tmp_path / 'models'}) hides the one of")
        assert "crysldm-bench ..." in line


def test_properties_bring_validity_along_and_say_so(tmp_path: Path) -> None:
    done = start([*RUN, "--tasks", "properties", "--out", "r"], tmp_path)
    assert "tasks: validity, properties, as properties needs the others" in done.stderr.splitlines()
    assert Run.open(tmp_path / "r").tasks == ["validity", "properties"]
    assert Run.open(tmp_path / "r").summary()["models"]["fake"]["metrics"]["emd_density"]["value"] is not None
    assert start(["run", "--resume", "r", "--tasks", "properties"], tmp_path).returncode == 0


def test_warnings_are_one_line_each_also_those_of_scoring_processes(tmp_path: Path) -> None:
    (tmp_path / "warner.py").write_text(WARNER)
    done = start(["run", "--models", "warner:Warns", *RUN[3:], "--out", "r"], tmp_path)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "strange weights" in line]
    assert warned == ["warning: strange weights, used as they are"]
    code = (
        "import warnings; from bench.scoring.pool import _start_worker; _start_worker({}, None); warnings.warn('a\\nb')"
    )
    worker = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert worker.stderr == "warning: a b\n"


WARNER = """
import warnings
from fake_generators import Fake


class Warns(Fake):
    name = "warns"

    def load(self, device):
        warnings.warn("strange weights,\\n  used as they are", stacklevel=2)
        super().load(device)
"""
