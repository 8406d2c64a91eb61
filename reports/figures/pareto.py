"""Quality against cost: one point for each model and step count of a run, with intervals and the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.atomic import write_text
from bench.statistics import Metric
from bench.store import report_folder
from reports.figures.cost_quality import COSTS, Point, family, front, models, pairs_table, points, points_csv, qualities
from reports.figures.files import FONT_SIZE, SUFFIXES, legend_below, line_of, plain_numbers, save_figure
from reports.run_results import ModelResult, read_results
from reports.tables.columns import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEM = "pareto"
PANEL_INCHES = (3.4, 1.7)


def write_reports(run_dirs: Sequence[Path]) -> str:
    """Writes each run's own report/pareto.png, .pdf, .svg, .csv and, with models at equal evaluations, .txt.

    Gives those pairs and where the rest is; empty for a run with fewer than two models whose evaluations are known.
    ValueError where a folder holds no finished run.
    """
    return "\n\n".join(filter(None, [_write_report(Path(folder)) for folder in run_dirs]))


def draw(results: Sequence[ModelResult], title: str) -> Figure:
    """One row of panels for each quality, one column for each cost; filled points are on the front."""
    from matplotlib.figure import Figure

    columns = qualities(models(results))
    families = {name: place for place, name in enumerate(dict.fromkeys(map(family, models(results))))}
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(COSTS) + 0.3, height * len(columns) + 1.0), layout="constrained")
    panels = figure.subplots(len(columns), len(COSTS), sharex="col", sharey="row", squeeze=False)
    for row, column in zip(panels, columns, strict=True):
        for panel, cost in zip(row, COSTS, strict=True):
            draw_panel(panel, results, column, cost, families)
        row[0].set_ylabel(f"{column.group.split(' (')[0]}\n{column.title} {column.arrow}")
    for panel, unit in zip(panels[-1], COSTS.values(), strict=True):
        panel.set_xlabel(unit)
    figure.suptitle(title, fontsize=FONT_SIZE + 1)
    legend_below(figure, panels.flat)
    return figure


def _write_report(folder: Path) -> str:
    results = models(read_results([folder]))
    if len(results) < 2 or not qualities(results):
        return ""
    report = report_folder(folder)
    title = results[0].dataset
    save_figure(
        lambda: draw(results, f"{title}: quality against cost; filled: nothing is cheaper and better"), report / STEM
    )
    write_text(report / f"{STEM}.csv", points_csv(results[0].run.dataset, results))
    where = f"Quality against cost: {report / STEM}.{', .'.join([*SUFFIXES, 'csv'])}"
    pairs = pairs_table(results)
    if not pairs:
        return where
    text = (
        f"{title}: different models at equal network evaluations (* better beyond noise, Holm-corrected)\n\n{pairs}\n"
    )
    write_text(report / f"{STEM}.txt", text)
    return f"{text}\n{where}, .txt"


def draw_panel(
    panel: Axes, results: Sequence[ModelResult], column: Column, cost: str, places: Mapping[str, int]
) -> None:
    """One quality against one cost. places: family -> its colour, line and marker."""
    found = points(results, column.metric, cost)
    on_front = front(found, column)
    scale = 100 if "rate" in column.metric or column.metric.startswith("valid") else 1
    for order, name in enumerate(dict.fromkeys(point.family for point in found)):
        colour, style, marker = line_of(places[name])
        beside = (3, 3) if order % 2 == 0 else (3, -8)  # points; models at equal costs lie close together
        own = [(point, best) for point, best in zip(found, on_front, strict=True) if point.family == name]
        costs, values = ([getattr(p, name).value for p, _ in own] for name in ("cost", "quality"))
        panel.plot(costs, [scale * value for value in values], color=colour, linestyle=style, linewidth=0.8, alpha=0.6)
        for number, (point, best) in enumerate(own):
            panel.errorbar(
                point.cost.value or 0.0, scale * (point.quality.value or 0.0),
                xerr=_reach(point.cost, 1), yerr=_reach(point.quality, scale),
                color=colour, marker=marker, markersize=5, markerfacecolor=colour if best else "white", linewidth=0.8,
                label=name if number == 0 else None, linestyle="none",
            )  # fmt: skip
            panel.annotate(
                _steps(point), (point.cost.value or 0.0, scale * (point.quality.value or 0.0)), beside,
                textcoords="offset points", fontsize=FONT_SIZE - 1, color=colour,
            )  # fmt: skip
    floors = [result.known(f"{column.metric}_floor") for result in results]
    known = [floor for floor in floors if floor is not None and floor.low is not None and floor.high is not None]
    if known:
        floor = max(known, key=lambda metric: metric.n)
        panel.axhspan(floor.low or 0.0, floor.high or 0.0, color="0.9", linewidth=0, zorder=0, label="real crystals")
    panel.set_xscale("log")
    plain_numbers(panel.xaxis, *panel.get_xlim())
    panel.spines[["top", "right"]].set_visible(False)


def _reach(metric: Metric, scale: float) -> list[list[float]] | None:
    """Distances to the bounds, below and above, as matplotlib takes them."""
    if metric.value is None or metric.low is None or metric.high is None:
        return None
    return [[scale * max(metric.value - metric.low, 0.0)], [scale * max(metric.high - metric.value, 0.0)]]


def _steps(point: Point) -> str:
    steps = point.result.metrics.get("steps", Metric(None)).value
    return "" if steps is None else f"{steps:.0f}"
