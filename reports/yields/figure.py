"""The yield curve: good crystals of a run's models against device seconds and network evaluations, with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.atomic import write_text
from bench.store import report_folder
from reports.figures.files import FONT_SIZE, SUFFIXES, legend_below, line_of, plain_numbers, save_figure
from reports.run_results import ModelResult, read_results
from reports.tables.formats import Format
from reports.yields.curves import AXES, YieldCurve
from reports.yields.stored import yield_curves
from reports.yields.tables import (
    COSTS,
    LEADS,
    TITLES,
    by_time,
    common_cost,
    costs_csv,
    curves_csv,
    known_at,
    leads_csv,
    notes,
    reading_table,
    readings_csv,
    yield_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEM = "yield_curve"
PANEL_INCHES = (3.4, 2.1)


def write_reports(run_dirs: Sequence[Path]) -> str:
    """Writes each run's own report/yield_curve.png, .pdf, .svg, .csv and .txt, yield_costs.csv and _leads.csv.

    Gives what every model had by the device seconds that all of them spent, and where the rest is. Empty for runs whose
    crystals cost nothing that is known, or are not scored. ValueError where a folder holds no finished run.
    """
    return "\n\n".join(filter(None, [_write_report(Path(folder)) for folder in run_dirs]))


def render_at(run_dirs: Sequence[Path], seconds: Sequence[float], format: Format = "text") -> str:
    """What each model had given by these device seconds: a smaller budget, read off the runs.

    ValueError where no run is known up to one of them, or knows no device seconds.
    """
    sections: list[str] = []
    rows: list[str] = []
    for dataset, members in groupby(read_results(run_dirs), key=lambda result: result.run.dataset):
        results = list(members)
        curves = by_time(_curves(results))
        if not curves:
            where = results[0].run.root
            raise ValueError(f"{where}: no model in it whose device seconds are known and whose crystals are scored")
        most = max(curve.until for curve in curves)
        for cost in seconds:
            if not any(known_at(curve, cost) for curve in curves):
                raise ValueError(
                    f"--at {cost:g}s: no model was sampled for so long; the longest for {most:.4g} device seconds"
                )
        if format == "csv":
            table = readings_csv(dataset, curves, seconds)
            rows.append(table.partition("\n")[2] if rows else table)
            continue
        for cost in seconds:
            title = f"{results[0].dataset}: by {cost:g} {AXES[curves[0].axis]} (95 % intervals)"
            sections.append(f"{title}\n\n{reading_table(curves, cost, format)}")
        sections += notes(curves)
    return "".join(rows) if format == "csv" else "\n\n".join(sections) + "\n"


def draw(curves: Sequence[YieldCurve], title: str) -> Figure:
    """One row of panels for each kind of crystal, one column for each cost; logarithmic scales, bands of 95 %."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    axes = [axis for axis in AXES if any(curve.axis == axis for curve in curves)]
    methods = list(dict.fromkeys(curve.method for curve in curves))
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(axes) + 0.3, height * len(kinds) + 0.8), layout="constrained")
    panels = figure.subplots(len(kinds), len(axes), sharex="col", sharey="row", squeeze=False)
    for row, kind in zip(panels, kinds, strict=True):
        for panel, axis in zip(row, axes, strict=True):
            own = [curve for curve in curves if (curve.kind, curve.axis) == (kind, axis)]
            draw_panel(panel, own, {method: place for place, method in enumerate(methods)})
        row[0].set_ylabel(f"{TITLES[kind]} crystals")
    for panel in panels.flat:
        finish_panel(panel)
    for panel, axis in zip(panels[-1], axes, strict=True):
        panel.set_xlabel(AXES[axis])
    figure.suptitle(title, fontsize=FONT_SIZE + 1)
    legend_below(figure, panels.flat, most=5)
    return figure


def draw_panel(panel: Axes, curves: Sequence[YieldCurve], places: Mapping[str, int]) -> None:
    """Curves of one kind and cost with their bands. places: model -> its colour, line and marker."""
    for curve in curves:
        _draw_curve(panel, curve, places[curve.method])
    panel.spines[["top", "right"]].set_visible(False)


def finish_panel(panel: Axes) -> None:
    """Logarithmic scales with plain numbers, once everything is drawn."""
    panel.set_xscale("log")
    panel.set_yscale("log")
    plain_numbers(panel.xaxis, *panel.get_xlim())
    plain_numbers(panel.yaxis, *panel.get_ylim())
    panel.set_ylim(bottom=max(0.5, panel.get_ylim()[0]))  # below one crystal there is nothing to see


def _write_report(folder: Path) -> str:
    results = read_results([folder])
    curves = _curves(results)
    if not curves:
        return ""
    dataset, title = results[0].run.dataset, results[0].dataset
    report = report_folder(folder)
    save_figure(lambda: draw(curves, f"{title}: good crystals for what they cost"), report / STEM)
    contents = {
        f"{STEM}.csv": curves_csv(dataset, curves),
        f"{STEM}.txt": yield_text(curves, title),
        COSTS: costs_csv(dataset, curves),
        LEADS: leads_csv(dataset, curves),
    }
    for name, content in contents.items():
        write_text(report / name, content)
    where = f"Yield curve: {report / STEM}.{', .'.join([*SUFFIXES, 'csv', 'txt'])}, {COSTS}, {LEADS}"
    timed = by_time(curves)
    if not timed:
        return where
    common = common_cost(timed)
    return (
        f"{title}: by {common:.3g} device seconds, which every model spent\n\n{reading_table(timed, common)}\n\n{where}"
    )


def _curves(results: Sequence[ModelResult]) -> list[YieldCurve]:
    return [curve for result in results for curve in yield_curves(result)]


def _draw_curve(panel: Axes, curve: YieldCurve, place: int) -> None:
    colour, style, marker = line_of(place)
    costs = curve.events
    if len(costs) == 0:
        return
    costs = np.unique([*costs[:: max(1, len(costs) // 1000)], costs[-1], curve.until])
    counts = curve.counts(costs)
    panel.plot(
        costs, counts, drawstyle="steps-post", color=colour, linestyle=style, linewidth=1.2, label=curve.method,
        marker=marker, markevery=[len(costs) - 1], markersize=4,
    )  # fmt: skip
    readings = curve.readings(curve.grid)
    if readings:
        places = np.append(curve.grid, curve.until)
        low, high = ([getattr(reading, end) or 0.0 for reading in [*readings, readings[-1]]] for end in ("low", "high"))
        panel.fill_between(places, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
