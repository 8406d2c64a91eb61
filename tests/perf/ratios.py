"""Prints the ratio of each benchmark group, reference median / other median, from pytest-benchmark's JSON.

pytest tests/perf --benchmark-json=FILE && python tests/perf/ratios.py FILE

The gate on speed: exits 1 where ours is not --at-least so many times as fast as the reference of its group. Ratios
within one run hold on any machine; times do not, and are not compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def ratios(report: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Group -> (reference median, other median) in seconds.

    Raises ValueError for a group that is not one reference and one other.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for benchmark in report["benchmarks"]:
        groups.setdefault(benchmark["group"] or "(no group)", []).append(benchmark)
    medians: dict[str, tuple[float, float]] = {}
    for group, members in sorted(groups.items()):
        reference = [m["stats"]["median"] for m in members if _is_reference(group, m["name"])]
        others = [m["stats"]["median"] for m in members if not _is_reference(group, m["name"])]
        if len(reference) != 1 or len(others) != 1:
            names = ", ".join(m["name"] for m in members)
            raise ValueError(f"group {group}: wants one reference and one other test, has {names}")
        medians[group] = reference[0], others[0]
    return medians


def _is_reference(group: str, name: str) -> bool:
    return "reference" in name or (group == "crysldm-vs-diffcsp" and "diffcsp" in name and "crysldm" not in name)


def too_slow(medians: dict[str, tuple[float, float]], at_least: float) -> list[str]:
    """Groups whose ratio is smaller."""
    return [group for group, (reference, ours) in medians.items() if reference < at_least * ours]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratio of each benchmark group: reference median / other median.")
    parser.add_argument("report", type=Path, help="what pytest --benchmark-json=FILE wrote")
    parser.add_argument("--at-least", type=float, default=1.0, help="ratio below which a group fails")
    given = parser.parse_args()
    medians = ratios(json.loads(given.report.read_text(encoding="utf-8")))
    print(f"{'group':24} {'reference':>12} {'ours':>12} {'ratio':>7}")
    for group, (reference, ours) in medians.items():
        print(f"{group:24} {reference * 1e3:9.2f} ms {ours * 1e3:9.2f} ms {reference / ours:6.2f}x")
    if slow := too_slow(medians, given.at_least):
        sys.exit(f"ratio below {given.at_least:g}: {', '.join(slow)}")


if __name__ == "__main__":
    main()
