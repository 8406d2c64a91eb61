"""The gate on speed: groups of one reference and one other, and their ratio."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.perf.ratios import ratios, too_slow

ROOT = Path(__file__).parents[2]


def report(*benchmarks: tuple[str, str, float]) -> dict[str, object]:
    return {"benchmarks": [{"group": g, "name": n, "stats": {"median": m}} for g, n, m in benchmarks]}


FAST = report(("scoring", "test_batches", 0.2), ("scoring", "test_one_by_one_reference", 0.9))
SLOW = report(("scoring", "test_batches", 0.95), ("scoring", "test_one_by_one_reference", 0.9))


def test_a_ratio_is_the_references_median_over_the_other() -> None:
    assert ratios(FAST) == {"scoring": (0.9, 0.2)}


@pytest.mark.parametrize(
    "names", [("a_reference",), ("a", "b"), ("a", "b", "c_reference"), ("a", "b_reference", "c_reference")]
)
def test_a_group_is_one_reference_and_one_other(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="wants one reference and one other"):
        ratios(report(*(("scoring", name, 1.0) for name in names)))


def test_what_is_slower_than_its_reference_fails() -> None:
    assert too_slow(ratios(FAST), 1.0) == []
    assert too_slow(ratios(FAST), 5.0) == ["scoring"]
    assert too_slow(ratios(SLOW), 1.0) == ["scoring"]


@pytest.mark.parametrize(("content", "code"), [(FAST, 0), (SLOW, 1)])
def test_the_command_prints_the_ratios_and_exits_1_where_one_is_too_small(
    content: dict[str, object], code: int, tmp_path: Path
) -> None:
    (tmp_path / "perf.json").write_text(json.dumps(content))
    command = [sys.executable, str(ROOT / "tests/perf/ratios.py"), str(tmp_path / "perf.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout.splitlines()[1].split()[0] == "scoring"
    assert ("ratio below 1: scoring" in done.stderr) == bool(code)


def test_sampling_relaxing_scoring_and_graphs_each_have_a_group() -> None:
    """Counted from the sources: collecting them would import torch."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "perf").glob("test_*.py")]
    found = {group for group in GROUPS if any(f'group="{group}"' in source for source in sources)}
    assert found == set(GROUPS)


GROUPS = (
    *("cspnet-paper-n5", "cspnet-paper-n20", "cspnet-cpu-n5", "crysldm-vs-diffcsp", "cdvae-step"),
    *("cdvae-graph", "relaxation", "scoring"),
)
