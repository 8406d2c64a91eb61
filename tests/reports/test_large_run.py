"""A report of a run of a million crystals takes seconds, and no more memory than that of a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reports.large_run import write_large_run

ROOT = Path(__file__).parents[2]
MEASURED = """
import re, sys, time
from pathlib import Path
from bench import cli
try:
    cli.main(["report", sys.argv[1]])
except SystemExit as ended:
    peak_kb = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]  # of this program alone
    print(ended.code, time.process_time(), int(peak_kb) / 1024)
"""


def report(root: Path) -> tuple[float, float]:
    """CPU seconds and peak MB of `bench report`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", MEASURED, str(root)], env=environment, capture_output=True, text=True)
    *shown, measured = done.stdout.splitlines()
    code, seconds, peak_mb = measured.split()
    assert code == "0", done.stderr
    assert "Table 1" in shown[0]
    return float(seconds), float(peak_mb)


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_report_of_a_million_crystals_takes_seconds_and_bounded_memory(tmp_path: Path) -> None:
    write_large_run(tmp_path / "small", 10_000, ("one",))
    write_large_run(tmp_path / "large", 1_000_000, ("one",))
    report(tmp_path / "small")  # fills caches of fonts and bytecode
    (seconds, peak_mb), (more_seconds, more_peak_mb) = report(tmp_path / "small"), report(tmp_path / "large")
    print(f"10,000 crystals: {seconds:.1f} s, {peak_mb:.0f} MB; 1,000,000: {more_seconds:.1f} s, {more_peak_mb:.0f} MB")
    assert more_seconds - seconds < 10
    assert more_peak_mb - peak_mb < 100
