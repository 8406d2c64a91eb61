"""What quality costs: models and step counts of a run, which are on the front, and pairs at equal evaluations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.statistics import SIGNIFICANCE, Metric, pairwise_p_values
from reports.csv_text import csv_text
from reports.run_results import ModelResult
from reports.tables.columns import COLUMNS, Column, three_digits
from reports.tables.formats import DASH, grid

COSTS = {"network_evaluations": "network evaluations / crystal", "seconds_per_crystal": "device seconds / crystal"}
QUALITIES = ("valid_composition", "valid_structure", "emd_num_elements", "emd_density", "stable_rate")
EQUAL_SHARE = 0.01  # evaluations within 1 % are the same: the counts of samplers differ by a first or last one
CSV_COLUMNS = (
    "dataset",
    "model",
    "family",
    "steps",
    "quality",
    "value",
    "low",
    "high",
    "cost",
    "at",
    "at_low",
    "at_high",
    "on_front",
)


@dataclass(frozen=True)
class Point:
    """One model's quality at its cost. family: the model without its number of steps."""

    result: ModelResult
    family: str
    quality: Metric
    cost: Metric


@dataclass(frozen=True)
class Pair:
    """Two families at the same number of evaluations. p_values: quality -> of "they are equal", Holm-corrected."""

    one: ModelResult
    other: ModelResult
    p_values: dict[str, float]


def qualities(results: Sequence[ModelResult]) -> list[Column]:
    """The columns of quality that at least two of the models have."""
    columns = {column.metric: column for column in COLUMNS}
    return [columns[name] for name in QUALITIES if sum(_value(result, name) is not None for result in results) > 1]


def models(results: Sequence[ModelResult]) -> list[ModelResult]:
    """Those that generate with a network whose evaluations are known: controls and files cost nothing to compare."""
    return [result for result in results if (_value(result, "network_evaluations") or 0) > 0]


def family(result: ModelResult) -> str:
    """The model's name without its number of steps."""
    return re.sub(r"@\d+", "", result.method)


def points(results: Sequence[ModelResult], quality: str, cost: str) -> list[Point]:
    """Models by family, then by cost; those that have both figures."""
    found = [
        Point(result, family(result), result.metrics[quality], result.metrics[cost])
        for result in models(results)
        if _value(result, quality) is not None and _value(result, cost) is not None
    ]
    order = list(dict.fromkeys(point.family for point in found))
    return sorted(found, key=lambda point: (order.index(point.family), point.cost.value or 0.0))


def front(found: Sequence[Point], column: Column) -> list[bool]:
    """For each point whether no other is as cheap and as good, and better in one of the two."""
    sign = 1 if column.better == "high" else -1
    places = [(point.cost.value or 0.0, -sign * (point.quality.value or 0.0)) for point in found]
    return [not any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in places) for own in places]


def equal_pairs(results: Sequence[ModelResult]) -> list[Pair]:
    """Models of different families that spend as many evaluations on a crystal, each with its tests.

    The p-values are corrected over all pairs of one quality.
    """
    columns = qualities(results)
    pairs = []
    for one, other in combinations(models(results), 2):
        first, second = (_value(result, "network_evaluations") or 0.0 for result in (one, other))
        if family(one) != family(other) and abs(first - second) <= EQUAL_SHARE * max(first, second):
            pairs.append(Pair(one, other, {}))
    for column in columns:
        known = [pair for pair in pairs if all(_tested(r, column.metric) for r in (pair.one, pair.other))]
        figures = {result.key: result.metrics[column.metric] for pair in known for result in (pair.one, pair.other)}
        p_values = pairwise_p_values(figures, [(pair.one.key, pair.other.key) for pair in known])
        for pair in known:
            pair.p_values[column.metric] = p_values[pair.one.key, pair.other.key]
    return sorted(pairs, key=lambda pair: _value(pair.one, "network_evaluations") or 0.0)


def pairs_table(results: Sequence[ModelResult]) -> str:
    """The pairs as text: two rows each; * for the one that is better beyond noise. Empty without a pair."""
    from tabulate import SEPARATING_LINE

    headers, pairs = pairs_rows(results)
    rows = [row for pair in pairs for row in (*pair, SEPARATING_LINE)]
    return grid(headers, rows[:-1]) if rows else ""


def pairs_rows(results: Sequence[ModelResult]) -> tuple[list[str], list[list[list[str]]]]:
    """Titles of `pairs_table`, and the two rows of each pair."""
    pairs, columns = equal_pairs(results), qualities(results)
    found = []
    for pair in pairs:
        rows = []
        for result in (pair.one, pair.other):
            evaluations, seconds = (result.metrics.get(name, Metric(None)).value for name in COSTS)
            cells = [_cell(column, pair, result) for column in columns]
            shown = [f"{evaluations:.0f}", result.method, *cells]
            rows.append([*shown, DASH if seconds is None else three_digits(seconds, 0)])
        found.append(rows)
    return ["evals", "Method", *(" ".join(filter(None, [c.short, c.arrow])) for c in columns), "s/crystal"], found


def points_csv(dataset: str, results: Sequence[ModelResult]) -> str:
    """One row for each model, quality and cost."""
    rows: list[list[object]] = []
    for column in qualities(results):
        for cost in COSTS:
            found = points(results, column.metric, cost)
            for point, on_front in zip(found, front(found, column), strict=True):
                steps = point.result.metrics.get("steps", Metric(None)).value
                own = [dataset, point.result.label, point.family, steps, column.metric]
                figures = [part for m in (point.quality, point.cost) for part in (m.value, m.low, m.high)]
                rows.append([*own, *figures[:3], cost, *figures[3:], on_front])
    return csv_text(CSV_COLUMNS, rows)


def _cell(column: Column, pair: Pair, result: ModelResult) -> str:
    metric = result.metrics.get(column.metric, Metric(None))
    shown = column.cell(metric)
    interval = "" if shown.interval is None else f" [{shown.interval[0]}, {shown.interval[1]}]"
    if pair.p_values.get(column.metric, 1.0) >= SIGNIFICANCE:
        return shown.value + interval
    other = (pair.other if result is pair.one else pair.one).metrics[column.metric].value or 0.0
    is_better = ((metric.value or 0.0) > other) == (column.better == "high")
    return shown.value + interval + (" *" if is_better else "")


def _value(result: ModelResult, metric: str) -> float | None:
    found = result.metrics.get(metric)
    return None if found is None else found.value


def _tested(result: ModelResult, metric: str) -> bool:
    found = result.metrics.get(metric)
    return found is not None and found.has_interval
