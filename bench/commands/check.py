"""The gate on metrics: a run against a baseline, each figure with both intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench.atomic import read_json, write_json
from bench.run_folder import manifest as manifests
from bench.sampling.usage import ENOUGH_UNDISTURBED
from bench.statistics import Metric, differ
from bench.store import Run

FORMAT = 1
EXACT_RTOL = 1e-9  # other processors and libraries round differently

HIGHER_IS_BETTER = (
    "valid",
    "stable_rate",
    "stable_by_",
    "unique_rate",
    "novel_rate",
    "sun_rate",
    "cov_",
    "match_rate",
    "metre",
)
LOWER_IS_BETTER = (
    "emd_",
    "js_",
    "amsd_",
    "amcd_",
    "steps",
    "network_evaluations",
    "evaluations_per",
    "collapsed_rate",
    "match_rmsd",
    "match_crmse",
)
OF_THE_MACHINE = ("undisturbed_share", "peak_", "energy_")  # never gated: another machine has others
FLOOR = "_floor"  # ends the name of what real crystals give: nobody's merit
# Figures whose expectation depends on the number of crystals: compared at equal numbers only.
DEPENDS_ON_N = (
    "emd_",
    "js_",
    "unique_rate",
    "novel_rate",
    "sun_rate",
    "cov_recall",
    "amsd_recall",
    "amcd_recall",
    "match_",
    "metre",
)


class Verdict(StrEnum):
    """What became of one metric."""

    SAME = "same"
    NOISE = "within noise"
    BETTER = "better"
    WORSE = "worse"
    MOVED = "moved"
    LOST = "no longer measured"
    NOT_COMPARED = "not compared"
    UNDEFINED = "undefined"


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


@dataclass(frozen=True)
class Tolerance:
    """How much a figure may move. rtol None: as much as noise does. exact: in neither direction."""

    rtol: float | None = None
    exact: bool = False


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


def compare(name: str, old: Metric, new: Metric, equal_n: bool, tolerance: Tolerance) -> tuple[Verdict, str]:
    """What became of a metric, and a remark."""
    if old.value is None:
        return (Verdict.UNDEFINED, "") if new.value is None else (Verdict.NOT_COMPARED, "undefined in the baseline")
    if new.value is None:
        # A cost per hit at zero hits is undefined by chance as well; its bound says whether it can still be as low.
        may_be_as_low = new.low is not None and new.low <= (old.value if old.high is None else old.high)
        if may_be_as_low and not tolerance.exact:
            return Verdict.NOISE, "no hit"
        return Verdict.LOST, ""
    if not equal_n and name.startswith(DEPENDS_ON_N):
        return Verdict.NOT_COMPARED, "depends on the number of crystals, which differs"
    change = new.value - old.value
    if change == 0:
        return Verdict.SAME, ""
    better = direction(name) * change
    if tolerance.rtol is not None:
        if abs(change) <= tolerance.rtol * abs(old.value):
            return Verdict.SAME, f"within {tolerance.rtol:g}"
        if tolerance.exact:
            return Verdict.WORSE, "must not move"
    elif not differ(old, new):
        return Verdict.NOISE, ""
    return (Verdict.BETTER if better > 0 else Verdict.WORSE if better < 0 else Verdict.MOVED), ""


def direction(name: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither is known to be."""
    if name.endswith(FLOOR):
        return 0
    if name.startswith(HIGHER_IS_BETTER):
        return 1
    return -1 if name.startswith(LOWER_IS_BETTER) or is_time(name) else 0


def is_time(name: str) -> bool:
    """Whether a metric is a time, or a cost in time."""
    return "seconds" in name


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
