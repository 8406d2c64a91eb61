"""Tables on screens without the signs of the tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.screen import writable

TABLE = "rate ↑¹   cost ↓²\n 99.3 ≈    –¹²\n97–99     4–5\n¹ density in g/cm³, 3 × 2\u00a0Å\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_screen_that_knows_every_sign_gets_the_text_as_it_is(encoding: str) -> None:
    assert writable(TABLE, encoding) == TABLE


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", None, "no-such-encoding"])
def test_another_gets_ascii_in_which_a_footnote_is_no_figure(encoding: str | None) -> None:
    plain = "rate ^[1] cost v[2]\n 99.3 ~    -[12]\n97-99     4-5\n[1] density in g/cm3, 3 x 2 A\n"
    assert writable(TABLE, encoding) == plain


def test_what_has_no_likeness_is_marked_as_missing() -> None:
    assert writable("naïve ⚛", "ascii") == "na?ve ?"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_run_ends_with_its_table_on_any_screen(encoding: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "bench", "run", "--models", "fake_generators:Fake", "--dataset", "perov5"]
    command += ["--num-samples", "3", "--tasks", "validity", "--workers", "1", "--out", str(tmp_path / "r")]
    paths = os.pathsep.join(map(str, (root, root / "tests" / "bench")))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert "fake" in shown
    assert ("compos. ↑" if encoding == "utf-8" else "compos. ^") in shown
    assert "compos. ↑" in (tmp_path / "r" / "report" / "table1.txt").read_text(encoding="utf-8")
