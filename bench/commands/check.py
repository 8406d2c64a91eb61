"""The gate on metrics: a run against a baseline, each figure with both intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.atomic import read_json, write_json
from bench.run_folder import manifest as manifests
from bench.sampling.usage import ENOUGH_UNDISTURBED
from bench.statistics import Metric
from bench.store import Run
from bench.verdicts import EXACT_RTOL, OF_THE_MACHINE, Tolerance, Verdict, compare, is_time

FORMAT = 1
FAILURES = (Verdict.WORSE, Verdict.LOST)
COMPARED = tuple(v for v in Verdict if v not in (Verdict.NOT_COMPARED, Verdict.UNDEFINED))


@dataclass(frozen=True)
class Comparison:
    """One metric of one model. gated: whether its verdict decides; note: why it was not compared."""

    model: str
    metric: str
    old: Metric
    new: Metric
    verdict: Verdict
    gated: bool
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether it fails the gate."""
        return self.gated and self.verdict in FAILURES

    def __str__(self) -> str:
        change = (
            "" if self.old.value is None or self.new.value is None else f" ({self.new.value - self.old.value:+.4g})"
        )
        note = f": {self.note}" if self.note else ""
        verdict = self.verdict if self.gated else f"{self.verdict}, not gated"
        return f"{self.model} {self.metric}: {_figure(self.old)} -> {_figure(self.new)}{change}: {verdict}{note}"


def _figure(metric: Metric) -> str:
    if metric.value is None:
        return "undefined" if metric.low is None else f"> {metric.low:.4g}"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4g}"
    return f"{metric.value:.4g} [{metric.low:.4g}, {metric.high:.4g}]"


def write_baseline(root: Path, out: Path) -> None:
    """Writes a run's metrics with their intervals and its protocol to a file."""
    run = Run.open(root)
    results = run.results()
    if not any(entry["requested"] for entry in results.values()):
        raise ValueError(f"{root}: nothing was measured in it, so it is no baseline")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        out,
        {
            "format": FORMAT,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "dataset": run.dataset,
            "protocol": run.manifest["protocol"],
            "protocol_hash": run.manifest["protocol_hash"],
            "software": run.manifest["software"],
            "models": {
                name: {"requested": entry["requested"], "metrics": entry["metrics"]} for name, entry in results.items()
            },
        },
    )


def check(
    root: Path, against: Path, rtol: float | None = None, exact: bool = False, times: bool = False
) -> list[Comparison]:
    """Every metric of the baseline beside the run's.

    A change is beyond noise where 0 lies outside the interval of the difference. rtol: a change for the worse by more
    than this share fails in place of noise. exact: any change beyond rtol fails, for the better too (frozen crystals,
    where only the code of the metrics can move a figure). times: gate seconds as well.

    ValueError where the two cannot be compared: another data set or protocol, a model that the run lacks, or nothing
    measured.
    """
    baseline = read_json(against)
    if baseline.get("format") != FORMAT:
        raise ValueError(f"{against}: no baseline of this version; write it with `bench baseline`")
    if rtol is not None and not (rtol >= 0 and math.isfinite(rtol)):
        raise ValueError(f"--rtol {rtol}: must be a number >= 0")
    run = Run.open(root)
    protocol = run.manifest["protocol"]  # of tasks that only the run has, nothing is compared
    own_tasks = {name: how for name, how in protocol["tasks"].items() if name in baseline["protocol"]["tasks"]}
    manifests.require_same(
        {"dataset": baseline["dataset"], **baseline["protocol"]},
        {"dataset": run.dataset, **protocol, "tasks": own_tasks},
        f"{root} cannot be compared with {against}: the protocol",
        "write a new baseline if that was meant",
    )
    models = run.results()
    for name in baseline["models"]:
        if name not in models:
            raise ValueError(f"{root}: has no model {name}, which {against} has; it has {', '.join(models) or 'none'}")
    tolerance = Tolerance(EXACT_RTOL if exact and rtol is None else rtol, exact)
    if times:
        _require_undisturbed(root, {name: models[name] for name in baseline["models"]})
        _require_undisturbed(against, baseline["models"])
    found = [
        comparison
        for name, entry in baseline["models"].items()
        for comparison in _compare_model(name, entry, models[name], tolerance, times)
    ]
    if not any(c.gated and c.verdict in COMPARED for c in found):
        raise ValueError(f"{root} and {against}: no metric could be compared")
    return found


def _require_undisturbed(where: Path, models: Mapping[str, Any]) -> None:
    """ValueError where times were measured on a busy machine. Where that is not known they are judged."""
    for name, entry in models.items():
        share = entry["metrics"].get("undisturbed_share", {}).get("value")
        if share is not None and share < ENOUGH_UNDISTURBED:
            raise ValueError(
                f"{where}: the times of {name} cannot be judged, as only {100 * share:.0f} % of its seconds were "
                f"undisturbed (--times needs {100 * ENOUGH_UNDISTURBED:.0f} %); run it again on a quiet machine"
            )


def _compare_model(
    model: str, old: Mapping[str, Any], new: Mapping[str, Any], tolerance: Tolerance, times: bool
) -> Iterator[Comparison]:
    if not new["requested"]:
        raise ValueError(f"{model}: nothing was measured, no crystal was asked for within the budget")
    for name, figures in old["metrics"].items():
        before = Metric.from_json(figures)
        after = Metric.from_json(new["metrics"].get(name, Metric(None).to_json()))
        # Times belong to the machine and its neighbours; speed has a gate of its own, as ratios within one run.
        gated = (times or not is_time(name)) and not name.startswith(OF_THE_MACHINE)
        verdict, note = compare(name, before, after, old["requested"] == new["requested"], tolerance)
        yield Comparison(model, name, before, after, verdict, gated, note)


def verdict_lines(comparisons: Sequence[Comparison], verbose: bool = False) -> list[str]:
    """What moved beyond noise, failures last, and a line that counts. verbose: the others as well."""
    quiet = (Verdict.SAME, Verdict.NOISE, Verdict.UNDEFINED)
    shown = [c for c in comparisons if not c.failed and (verbose or (c.verdict not in quiet and c.gated))]
    failed = [c for c in comparisons if c.failed]
    compared = [c for c in comparisons if c.gated and c.verdict in COMPARED]
    count = (
        f"{len(compared)} metrics compared: {len(failed)} failed"
        if failed
        else f"{len(compared)} metrics: no regression"
    )
    noise = sum(c.verdict is Verdict.NOISE for c in compared)
    count = f"{count}, {noise} moved within noise" if noise else count
    return [*map(str, shown), *(f"FAILED {c}" for c in failed), count]
