"""How many times dearer other models are than CrysLDM, by each way of counting: steps, evaluations, device seconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.statistics import Metric, quotient
from reports.run_results import ModelResult
from reports.tables.columns import three_digits
from reports.tables.formats import DASH
from reports.tables.paper_rows import PRINTED_ROWS

CHEAP = "crysldm"
HEADERS = (
    "Data set",
    "Against CrysLDM",
    "steps",
    "evaluations",
    "device s / crystal",
    "device s / stable",
    "steps / stable",
    "printed steps / stable",
)


def speedup_rows(results: Sequence[ModelResult]) -> list[list[str]]:
    """One row for each model that spends evaluations, beside CrysLDM of the same data set. Controls have none."""
    rows = []
    for dataset, members in groupby(results, key=lambda result: result.run.dataset):
        found = once_each([result for result in members if not result.is_control])
        cheap = found.pop(CHEAP, None)
        if cheap is None:
            continue
        for result in found.values():
            ratios = [
                _ratio(result, cheap, "steps"),
                _ratio(result, cheap, "network_evaluations"),
                _ratio(result, cheap, "seconds_per_crystal"),
                quotient(seconds_per_stable(result), seconds_per_stable(cheap)),
                _ratio(result, cheap, "steps_per_stable"),
                printed_speedup(dataset, result.method),
            ]
            rows.append([result.dataset, result.method, *map(shown, ratios)])
    return rows


def once_each(results: Sequence[ModelResult]) -> dict[str, ModelResult]:
    """The results of one data set by model. ValueError where two runs have the same one."""
    found: dict[str, ModelResult] = {}
    for result in results:
        if result.model in found:
            raise ValueError(
                f"{result.model} is in {found[result.model].run.root} and in {result.run.root}; leave one of them out"
            )
        found[result.model] = result
    return found


def printed_speedup(dataset: str, method: str) -> Metric:
    """The ratio of the paper's printed steps / stable, with the interval that 1000 crystals imply."""
    printed = {row.method: row for row in PRINTED_ROWS if row.dataset == dataset}
    if method not in printed or "CrysLDM" not in printed:
        return Metric(None)
    return quotient(printed[method].steps_per_stable_metric, printed["CrysLDM"].steps_per_stable_metric)


def shown(metric: Metric) -> str:
    """A ratio with its interval; a bound where one model had no hit."""
    if metric.value is None:
        bounds = [
            f"{sign} {three_digits(b, 0)}" for sign, b in ((">", metric.low), ("<", metric.high)) if b is not None
        ]
        return bounds[0] if bounds else DASH
    value = three_digits(metric.value, 0)
    if metric.low is None or metric.high is None:
        return value
    low, high = three_digits(metric.low, 0), three_digits(metric.high, 0)
    return value if low == value == high else f"{value} [{low}, {high}]"


def _ratio(one: ModelResult, other: ModelResult, metric: str) -> Metric:
    return quotient(one.metrics.get(metric, Metric(None)), other.metrics.get(metric, Metric(None)))


def seconds_per_stable(result: ModelResult) -> Metric:
    """Device seconds of a stable crystal: those of a crystal over the stability rate."""
    rate = result.metrics.get("stable_rate", Metric(None))
    if rate.value == 0:  # a cost per hit without a hit: its bound alone
        rate = Metric(None, rate.low, rate.high, rate.n)
    return quotient(result.metrics.get("seconds_per_crystal", Metric(None)), rate)
