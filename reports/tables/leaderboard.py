"""The leaderboard: models of several runs in order, where equal ranks mean that noise cannot tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from bench.statistics import SIGNIFICANCE, pairwise_p_values
from reports.run_results import ModelResult, one_device, read_results
from reports.tables.card_notes import card_notes
from reports.tables.columns import COLUMNS, Column, count, percent, three_digits
from reports.tables.formats import DASH, Cell, Header, Table, to_text, without_first_column

TITLE = "Leaderboard: good crystals, and what they cost"
SHOWN = (
    Column("sun_rate", "Good crystals (%)", "S.U.N.", "S.U.N.", percent, "high", "novelty"),
    Column("stable_rate", "Good crystals (%)", "stable", "stable", percent, "high", "stability"),
    Column("valid", "Good crystals (%)", "valid", "valid", percent, "high", "validity"),
    Column("seconds_per_crystal", "Device seconds", "per crystal", "/ crystal", three_digits, "low", None),
    Column("seconds_per_stable", "Device seconds", "per stable one", "/ stable", three_digits, "low", "stability"),
    Column("evaluations_per_stable", "Evaluations", "per stable one", "/ stable", three_digits, "low", "stability"),
)
BY_DEFAULT = ("sun_rate", "stable_rate", "valid")  # the first of these that a run of the data set has


def render(run_dirs: Sequence[Path], by: str | None = None) -> str:
    """The leaderboard as text, its only data set in the title, in at most ten columns.

    ValueError where runs have different protocols or the metric is not one to rank by.
    """
    results = read_results(run_dirs)
    datasets = list(dict.fromkeys(result.dataset for result in results))
    if len(datasets) != 1:
        return to_text(compose(results, by, SHOWN[:-1]), TITLE)
    shown = SHOWN if by in (None, *(column.metric for column in SHOWN)) else SHOWN[:-1]
    return to_text(without_first_column(compose(results, by, shown)), f"{TITLE} ({datasets[0]})")


def rankable() -> dict[str, Column]:
    """Metric -> column of everything that models can be ranked by."""
    return {column.metric: column for column in (*COLUMNS, *SHOWN) if column.better is not None}


def compose(results: Sequence[ModelResult], by: str | None = None, figures: Sequence[Column] = SHOWN) -> Table:
    """For each data set its models by rank, then what is not ranked. by: a metric; None: S.U.N., stable or valid.

    figures: columns, beside that of the metric.
    """
    columns = rankable()
    if by is not None and by not in columns:
        raise ValueError(f"--by {by}: known are {', '.join(columns)}")
    extra = [] if by in (None, *(column.metric for column in figures)) else [columns[by or ""]]
    shown = [*extra, *figures]
    headers = [Header("", title, title) for title in ("Dataset", "Rank", "Method", "Run", "Crystals")]
    headers += [Header(c.group, c.title, c.short, c.arrow) for c in shown]
    sections, remarks = [], [_meaning()]
    for _, members in groupby(results, key=lambda result: result.run.dataset):
        own = list(members)
        models = [result for result in own if result.is_compared]
        apart = [result for result in own if not result.is_compared]
        metric = by or next(
            (name for name in BY_DEFAULT if any(result.known(name) for result in models)), BY_DEFAULT[-1]
        )
        ranks = rank_models(models, columns[metric])
        rows = [_row(str(rank) if rank else DASH, result, shown) for rank, result in ranks]
        rows += [_row(DASH, result, shown) for result in apart]
        if rows:
            rows[0][0] = Cell(own[0].dataset)
            sections.append(rows)
            controls = [result for result in apart if result.is_control]
            remarks += [_ranked_by(own[0].dataset, columns[metric], controls)] if models else []
    return Table(headers, sections, [], [*remarks, *card_notes(results)])


def rank_models(models: Sequence[ModelResult], column: Column) -> list[tuple[int | None, ModelResult]]:
    """Models, the best first, each with 1 + the number of those that are better beyond noise; None without a figure.

    Pairs are compared by `pairwise_p_values`. ValueError where seconds of different devices would be ranked.
    """
    if "seconds" in column.metric and not one_device(models):
        raise ValueError(
            f"--by {column.metric}: the runs were sampled on different devices or threads, whose seconds do not "
            "compare; rank by evaluations_per_stable, or leave --by out"
        )
    figures = {
        place: None if column.is_time and model.was_disturbed else column.comparable(model.known(column.metric))
        for place, model in enumerate(models)
    }
    known = {place: m for place, m in figures.items() if m is not None and m.has_interval}
    sign = 1 if column.better == "high" else -1
    goodness = {place: sign * (metric.value or 0.0) for place, metric in known.items()}
    beaten = dict.fromkeys(known, 0)
    for (one, other), p_value in pairwise_p_values(known).items():
        if p_value < SIGNIFICANCE:
            beaten[one if goodness[one] < goodness[other] else other] += 1
    order = sorted(known, key=lambda place: (beaten[place], -goodness[place], place))
    ranked: list[tuple[int | None, ModelResult]] = [(1 + beaten[place], models[place]) for place in order]
    return ranked + [(None, model) for place, model in enumerate(models) if place not in known]


def _row(rank: str, result: ModelResult, columns: Sequence[Column]) -> list[Cell]:
    name = result.method.removesuffix(result.label[len(result.model) :])  # the run has a column of its own
    cells = [Cell(""), Cell(rank), Cell(name), Cell(result.run.name), Cell(count(result.requested, 0))]
    for column in columns:
        metric = result.known(column.metric)
        cells.append(Cell(DASH) if metric is None else column.cell(metric))
    return cells


def _meaning() -> str:
    return (
        "Rank: 1 + the models that are better beyond noise (all pairs compared at 5 %, Holm-corrected); equal ranks "
        "cannot be told apart. S.U.N.: stable, unique and new, as generated. Rates are over all crystals asked for."
    )


def _ranked_by(dataset: str, column: Column, controls: Sequence[ModelResult]) -> str:
    apart = f"; controls are not ranked: {', '.join(c.method for c in controls)}" if controls else ""
    return f"{dataset} is ranked by {column.metric} {column.arrow}{apart}."
