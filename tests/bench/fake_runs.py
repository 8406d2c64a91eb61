"""Runs of fake models on fake tasks: what tests of the harness plan, and what must not depend on how a run went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.budget import Budget
from bench.model_specs import parse_models
from bench.runner import Plan
from bench.verdicts import OF_THE_MACHINE, is_time


def plan(models: str = "fake_generators:Fake", **options: Any) -> Plan:
    """23 crystals of a fake model on Perov-5, in this process; options replace what a plan holds."""
    chosen = {"budget": Budget(num_samples=23), "workers": 1, "device": "cpu", "threads": 1, **options}
    return Plan(parse_models(models), "perov5", **chosen)


def kept(root: Path) -> dict[str, bytes]:
    """What must not depend on kills, resumes and who computed it: crystals and task tables."""
    tables = (path for path in root.rglob("*.parquet") if path.name != "batches.parquet")
    return {str(path.relative_to(root)): path.read_bytes() for path in tables}


def model_summary(root: Path, model: str) -> dict[str, Any]:
    """What the summary says of a model."""
    return json.loads((root / "summary.json").read_text())["models"][model]  # type: ignore[no-any-return]


def counted_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those that do not depend on the machine and the time it took."""
    return {n: figure for n, figure in metrics.items() if not is_time(n) and not n.startswith(OF_THE_MACHINE)}
