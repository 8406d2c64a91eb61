"""Yield curves in words and figures: what was there by a cost, what the n-th crystal costs, who has more from where."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import combinations, groupby

from bench.statistics import Metric
from reports.csv_text import csv_text
from reports.tables.columns import three_digits
from reports.tables.formats import DASH, TEXT_WIDTH, Format, grid
from reports.yields.curves import AXES, Axis, Kind, Lead, YieldCurve, lead

TITLES: Mapping[Kind, str] = {"valid": "valid", "stable": "stable", "sun": "S.U.N.", "vun": "V.U.N."}
MEANINGS: Mapping[Kind, str] = {
    "sun": "S.U.N.: stable, unique among those sampled and new against the training split",
    "vun": "V.U.N.: valid, unique among those sampled and new against the training split",
}
NUMBERS = {1: "1st", 10: "10th", 100: "100th", 1000: "1000th"}
CURVE_COLUMNS = ("dataset", "model", "kind", "cost", "at", "asked", "crystals", "low", "high", "repeats")
COST_COLUMNS = (
    "dataset",
    "model",
    "kind",
    "cost",
    "number",
    "expected",
    "low",
    "high",
    "observed",
    "reached",
    "repeats",
)
LEAD_COLUMNS = (
    *("dataset", "kind", "cost", "model", "other"),
    *("leader", "first_lead", "crossings", "beyond_noise_from", "without_batch"),
)
COSTS, LEADS = "yield_costs.csv", "yield_leads.csv"
PAIRS_SHOWN = 6  # those of four models


def reading_table(curves: Sequence[YieldCurve], cost: float, format: Format = "text") -> str:
    """What each model had given by a cost: crystals asked for and those that count, with intervals.

    curves: of one data set and one axis. A model whose curve ends before has a dash and says where it ended,
    and so has one of a fixed number of crystals whose first batch ends later.
    """
    return grid(*reading_rows(curves, cost), format)


def reading_rows(curves: Sequence[YieldCurve], cost: float) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of `reading_table`."""
    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    rows = []
    for method, members in groupby(curves, key=lambda curve: curve.method):
        own = {curve.kind: curve for curve in members}
        first = next(iter(own.values()))
        if not known_at(first, cost):
            rows.append([method, f"ended at {three_digits(first.until, 0)}", *[DASH] * len(kinds)])
            continue
        if nothing_yet(first, cost):
            none = f"no batch had ended; the first ends at {three_digits(first.first_end or 0.0, 0)}"
            rows.append([method, none, *[DASH] * len(kinds)])
            continue
        readings = {kind: curve.readings([cost])[0] for kind, curve in own.items()}
        asked = next(iter(readings.values())).n / len(first.repeats)
        cells = [show_count(readings[kind]) if kind in readings else DASH for kind in kinds]
        rows.append([method, number(asked), *cells])
    return ["Method", "asked for", *(TITLES[kind] for kind in kinds)], rows


def cost_table(curves: Sequence[YieldCurve], format: Format = "text") -> str:
    """What a model's n-th crystal costs: expected, with intervals, and what was seen. curves: as `reading_table`'s."""
    return grid(*cost_rows(curves), format)


def cost_rows(curves: Sequence[YieldCurve]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of `cost_table`."""
    most = max((curve.hits / len(curve.repeats) for curve in curves), default=0)
    shown = [n for n in NUMBERS if n == 1 or n <= most]
    rows = []
    for curve in curves:
        seen, reached = curve.observed_cost(1)
        first = DASH if seen is None else three_digits(seen, 0)
        if len(curve.repeats) > 1 and reached < len(curve.repeats):
            first += f" ({reached} of {len(curve.repeats)} repeats)"
        expected = [show_cost(curve.expected_cost(n)) for n in shown]
        rows.append([curve.method, TITLES[curve.kind], *expected, first])
    return ["Method", "crystal", *(NUMBERS[n] for n in shown), "first seen at"], rows


def leads(curves: Sequence[YieldCurve]) -> list[tuple[YieldCurve, Lead]]:
    """Each pair of models of each kind and cost: the first one's curve, and who leads where."""
    pairs = combinations(curves, 2)
    return [(one, lead(one, other)) for one, other in pairs if (one.kind, one.axis) == (other.kind, other.axis)]


def lead_lines(found: Sequence[tuple[YieldCurve, Lead]]) -> list[str]:
    """Which model of a pair has more crystals, from what cost on, and where they cross.

    Of many pairs, those that cross.
    """
    kinds = {curve.kind for curve, _ in found}
    if len(found) > PAIRS_SHOWN * len(kinds):
        found = [(curve, pair) for curve, pair in found if len(pair.changes) > 1]
    return [f"{TITLES[curve.kind]}: {pair.one}, {pair.other}: {_in_words(pair)}" for curve, pair in found]


def _in_words(pair: Lead) -> str:
    if pair.leader is None:
        return "as many at the end" if pair.changes else "neither has any"
    crossings = [three_digits(cost, 0) for cost in pair.changes[1:]]
    crossed = f", crossings at {', '.join(crossings[-5:])}" if len(crossings) > 1 else ""
    if pair.empty is not None:
        sure = f"{pair.empty} has no batch as far as both are known"
    elif pair.sure_from is None:
        sure = "not beyond noise"
    else:
        sure = f"beyond noise from {three_digits(pair.sure_from, 0)} on"
    return f"{pair.leader} has more from {three_digits(pair.changes[-1], 0)} on{crossed}; {sure}"


def yield_text(curves: Sequence[YieldCurve], title: str) -> str:
    """Everything above for the curves of one data set, by device seconds and by network evaluations."""
    parts = []
    for axis, unit in AXES.items():
        own = [curve for curve in curves if curve.axis == axis]
        if not own:
            continue
        common = common_cost(own)
        repeats = max(len(curve.repeats) for curve in own)
        means = f"; means of {repeats} repeats" if repeats > 1 else ""
        parts += [
            f"{title}: good crystals by {unit} (95 % intervals{means})",
            f"By {three_digits(common, 0)} {unit}, which every model spent:\n{reading_table(own, common)}",
            f"{unit[0].upper()}{unit[1:]} to the n-th crystal, expected: all that was spent / all that were found x n\n"
            + cost_table(own),
        ]
        pairs = leads(own)
        lines = lead_lines(pairs)
        if pairs:
            which = "Which model has more" if len(lines) == len(pairs) else f"Where curves cross (all pairs: {LEADS})"
            parts.append("\n".join([f"{which}:", *(lines or ["nowhere"])]))
    parts.append("\n".join(textwrap.fill(note, TEXT_WIDTH, subsequent_indent="  ") for note in notes(curves)))
    return "\n\n".join(filter(None, parts)) + "\n"


def notes(curves: Sequence[YieldCurve]) -> list[str]:
    """What the columns mean, and what is not known."""
    kinds = dict.fromkeys(curve.kind for curve in curves)
    lines = ["A crystal is there when its batch has ended: before the first end there is none."]
    lines += [MEANINGS[kind] + "." for kind in kinds if kind in MEANINGS]
    unknown = {curve.method: curve.unknown for curve in curves if curve.unknown}
    if unknown:
        counts = ", ".join(f"{method} {count}" for method, count in unknown.items())
        lines.append(
            f"Not counted, as it is not known whether they are new (the training crystals are not at hand): {counts}."
        )
    return lines


def curves_csv(dataset: str, curves: Sequence[YieldCurve]) -> str:
    """One row for each curve and place of its grid, with the interval there."""
    rows = []
    for curve in curves:
        for cost, reading in zip(curve.grid, curve.readings(curve.grid), strict=True):
            place = [dataset, curve.method, curve.kind, AXES[curve.axis], repr(float(cost))]
            rows.append([*place, reading.n, reading.value, reading.low, reading.high, len(curve.repeats)])
    return csv_text(CURVE_COLUMNS, rows)


def readings_csv(dataset: str, curves: Sequence[YieldCurve], costs: Sequence[float]) -> str:
    """The same at costs of the reader's choice; empty where a curve ended before or has not begun."""
    rows: list[list[object]] = []
    for curve in curves:
        for cost in costs:
            place = [dataset, curve.method, curve.kind, AXES[curve.axis], repr(float(cost))]
            if known_at(curve, cost) and not nothing_yet(curve, cost):
                reading = curve.readings([cost])[0]
                figures: list[object] = [reading.n, reading.value, reading.low, reading.high]
            else:
                figures = [None] * 4
            rows.append([*place, *figures, len(curve.repeats)])
    return csv_text(CURVE_COLUMNS, rows)


def costs_csv(dataset: str, curves: Sequence[YieldCurve]) -> str:
    """One row for each curve and each n: the expected cost of the n-th crystal, and the one that was seen."""
    rows = []
    for curve in curves:
        for n in NUMBERS:
            expected, (seen, reached) = curve.expected_cost(n), curve.observed_cost(n)
            figures = [expected.value, expected.low, expected.high, seen, reached, len(curve.repeats)]
            rows.append([dataset, curve.method, curve.kind, AXES[curve.axis], n, *figures])
    return csv_text(COST_COLUMNS, rows)


def by_time(curves: Sequence[YieldCurve]) -> list[YieldCurve]:
    """The curves by seconds of sampling and scoring, where their budget covered both, else by device seconds."""
    axes: tuple[Axis, ...] = ("end_to_end", "seconds")
    found = [[curve for curve in curves if curve.axis == axis] for axis in axes]
    return next(filter(None, found), [])


def leads_csv(dataset: str, curves: Sequence[YieldCurve]) -> str:
    """One row for each pair of models, kind and cost. crossings: costs, separated by blanks."""
    rows = []
    for curve, pair in leads(curves):
        first, *crossings = pair.changes or (None,)
        crossed = " ".join(repr(cost) for cost in crossings)
        ends = [pair.leader, first, crossed, pair.sure_from, pair.empty]
        rows.append([dataset, curve.kind, AXES[curve.axis], pair.one, pair.other, *ends])
    return csv_text(LEAD_COLUMNS, rows)


def common_cost(curves: Sequence[YieldCurve]) -> float:
    """The largest cost up to which every curve is known."""
    return min(curve.until for curve in curves)


def known_at(curve: YieldCurve, cost: float) -> bool:
    """Whether all repeats are known up to that cost."""
    return cost <= curve.until * (1 + 1e-12)


def nothing_yet(curve: YieldCurve, cost: float) -> bool:
    """Whether a model had ended no batch by then, of a fixed number of crystals: it has none to be counted, not 0."""
    return not curve.budgeted and curve.first_end is not None and curve.first_end > cost * (1 + 1e-12)


def show_count(metric: Metric) -> str:
    """A number of crystals with its interval."""
    value = number(metric.value or 0.0)
    return (
        value if metric.low is None or metric.high is None else f"{value} [{number(metric.low)}, {number(metric.high)}]"
    )


def show_cost(metric: Metric) -> str:
    """A cost with its interval, or a one-sided bound."""
    if metric.value is None:
        return DASH if metric.low is None else f"> {three_digits(metric.low, 0)}"
    low = DASH if metric.low is None else three_digits(metric.low, 0)
    return f"{three_digits(metric.value, 0)} [{low}, {'open' if metric.high is None else three_digits(metric.high, 0)}]"


def number(value: float) -> str:
    """A mean number of crystals: whole where it is, else to a tenth while that is worth showing."""
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"
