"""What `bench doctor` says of a sound machine, and of one that is broken in this or that way."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from bench.commands import doctor
from bench.commands.doctor import Finding
from tests.command_line import bench

ROOT = Path(__file__).parents[2]


def examined(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    return bench("doctor", *options), capsys.readouterr().out


def line(shown: str, what: str) -> str:
    return next(text for text in shown.splitlines() if what in text)


def finding(what: str, check: Callable[[], Iterable[Finding]] = doctor.examine) -> Finding:
    return next(f for f in check() if f.what == what)


def test_a_sound_machine_is_told_part_by_part(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = examined(capsys)
    assert code == 0, shown
    for word in (
        "device",
        "threads",
        "torch",
        "perov5 crystals",
        "mp20 reference card",
        "weights",
        "chgnet hull",
        "free",
    ):
        assert word in shown, word
    assert "works here" in shown


def test_it_is_quick_and_imports_neither_torch_nor_a_potential() -> None:
    code = (
        "import sys; from bench.commands.doctor import examine; examine(); "
        "print(*{'torch', 'chgnet', 'matgl'} & {*sys.modules})"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5


def test_python_without_any_package_is_a_table_of_what_to_install() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench.commands.doctor import *; "
        "found = examine(); print(render(found), is_fit(found))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "No module named 'numpy'" in done.stdout
    assert "pip install" in done.stdout
    assert done.stdout.strip().endswith("False")


def test_a_data_folder_that_does_not_exist_is_to_be_corrected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "nowhere"))
    code, shown = examined(capsys)
    assert code == 1
    assert "BROKEN" in line(shown, "BENCH_DATA_DIR")
    assert "unset BENCH_DATA_DIR" in shown


def test_a_damaged_data_file_is_a_line_and_the_rest_is_examined(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "perov_5").mkdir()
    (tmp_path / "perov_5" / "val.csv.gz").write_bytes(b"\x1f\x8b no gzip")
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    code, shown = examined(capsys)
    assert code == 1
    assert "val.csv.gz: damaged gzip file" in line(shown, "perov5 crystals")
    assert "not here" in line(shown, "mp20 crystals")
    assert "chgnet hull" in shown


def test_absent_data_are_no_fault_and_have_their_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    code, shown = examined(capsys)
    assert code == 0
    assert "python -m bench data perov5" in shown.partition("To add:")[2]


def test_an_altered_file_is_said_to_be_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "perov_5").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "perov_5" / f"{split}.csv").write_text("cif\n")
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    assert finding("perov5 crystals", doctor._data).found.count("not the published file") == 3


@pytest.mark.parametrize(
    ("requirement", "state", "remedy"),
    [
        ("numpy>=99", "broken", "pip install 'numpy>=99'"),
        ("no-such-package>=1", "missing", "pip install 'no-such-package>=1'"),
    ],
)
def test_a_package_that_is_not_as_required_stops_a_run(
    requirement: str, state: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: [requirement, "scipy>=1", 'other>=9; extra == "test"'])
    found = doctor.examine()
    assert not doctor.is_fit(found)
    (amiss,) = [f for f in found if f.remedy == remedy]
    assert (amiss.state, amiss.required) == (state, True)


def test_folders_that_cannot_be_written_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    found = finding("cache", doctor._folders)
    assert (found.state, found.required) == ("broken", True)
    assert "Permission denied" in finding("run folders", doctor._folders).found


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    assert "GB are wanted" in finding("cache", doctor._folders).found


def test_damaged_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card, weights = tmp_path / "x-perov5-cpu.json", tmp_path / "x-perov5-cpu.safetensors"
    card.write_text('{"sha256": "of other bytes"}')
    weights.write_bytes(b"bytes")
    monkeypatch.setattr("bench.commands.listing.shipped_weight_files", lambda: [(card, weights)])
    found = finding("weights", doctor._models)
    assert (found.state, found.found, found.required) == ("broken", "damaged: x-perov5-cpu", True)


def test_a_damaged_hull_of_the_default_potential_stops_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "chgnet.parquet").write_bytes(b"no hull")
    (tmp_path / "chgnet.json").write_text("{}")
    monkeypatch.setenv("BENCH_HULL_DIR", str(tmp_path))
    found = finding("chgnet hull")
    assert (found.state, found.required) == ("broken", True)
    assert "hull build --potential chgnet" in found.remedy


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []

    def snapshot_download(repository: str, local_files_only: bool, **options: Any) -> str:
        asked.append(local_files_only)
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.delenv("BENCH_POTENTIALS_DIR", raising=False)
    found = finding("m3gnet")
    assert (found.state, found.required) == ("missing", False)
    assert found.remedy == "hf download materialyze/M3GNet-MP-2021.2.8-PES"
    assert asked and all(asked)


def test_deep_names_a_potential_that_fails_its_self_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_potential(name: str) -> None:
        raise ValueError("NaCl has -1.30 eV/atom instead of -3.37")

    monkeypatch.setattr("tasks.stability.examination.load_potential", load_potential)
    assert examined(capsys)[0] == 0
    code, shown = examined(capsys, "--deep")
    assert code == 1
    assert "instead of -3.37" in line(shown, "potentials")


@pytest.mark.nightly
def test_deep_tests_the_default_potential(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = examined(capsys, "--deep")
    assert code == 0, shown
    assert "self-test passed" in line(shown, "potentials")
