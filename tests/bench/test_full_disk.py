"""A file system that is full, or read-only, at any stage of a run: one line, and what was complete is still there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.fake_runs import kept

HERE = Path(__file__).parent
BENCH = f"{sys.executable} {HERE / 'fake_bench.py'} run --workers 1"
RUN = f"{BENCH} --models fake_generators:Fake --dataset perov5 --num-samples 60 --device cpu"
# A file system in memory, seen by this shell and its children alone.
MOUNT = "mount -t tmpfs -o size={size}k tmpfs {disk}"


def in_own_namespace(script: str) -> str:
    """What a shell script prints that may mount file systems. Skips where the system does not allow that."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces")
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    command = ["unshare", "-rm", "sh", "-ec", script]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("whole") / "r"
    in_own_namespace(f"{RUN} --out {root}")
    return kept(root)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system as Linux does")
@pytest.mark.parametrize("size", [40, 100])  # kB: full among batches, and among chunks
def test_a_disk_that_is_full_loses_nothing_that_was_complete(
    size: int, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    shown = in_own_namespace(f"""
        {MOUNT.format(size=size, disk=disk)}
        {RUN} --out {disk}/r && exit 9
        find {disk}/r -name '*.parquet' | wc -l
        mount -o remount,size=20m {disk}
        {BENCH} --resume {disk}/r
        cp -r {disk}/r {out}""")
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and f"error: {disk}/r/" in errors[0], shown
    assert "No space left on device; what is complete is kept: go on with" in errors[0]
    assert kept(out) == whole


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system as Linux does")
def test_a_folder_that_can_only_be_read_is_said_in_one_line_and_left_as_it_is(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    report = BENCH.replace(" run --workers 1", "")
    shown = in_own_namespace(f"""
        {MOUNT.format(size=2000, disk=disk)}
        {RUN} --out {disk}/r
        {report} baseline {disk}/r --out {tmp_path}/base.json
        find {disk}/r/fake {disk}/r/*.json -type f | sort | xargs sha256sum > {tmp_path}/before
        mount -o remount,ro {disk}
        {RUN} --out {disk}/other && exit 9
        {BENCH} --resume {disk}/r && exit 9
        {report} rescore {disk}/r && exit 9
        {report} check {disk}/r --against {tmp_path}/base.json
        find {disk}/r/fake {disk}/r/*.json -type f | sort | xargs sha256sum | cmp - {tmp_path}/before""")
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: {disk}/{name}: Read-only file system" for name in ("other", "r/.lock", "r/.lock")]
    assert "no regression" in shown
