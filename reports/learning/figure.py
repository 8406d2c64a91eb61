"""The figure of a run of `bench learn`: metrics against training time, and totals against the number of crystals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.atomic import write_text
from bench.datasets import dataset_spec
from bench.store import Run, report_folder
from reports.figures.files import FONT_SIZE, SUFFIXES, legend_below, line_of, plain_numbers, save_figure
from reports.learning.curves import Kind, LearningCurve, best_offer, kind_of_crystals, offers, read_curves
from reports.learning.tables import curves_csv, render, shown_metrics, targets_csv, totals_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEM = "learning"
TITLES = {
    "valid_composition": "valid compositions (%)",
    "valid_structure": "valid structures (%)",
    "emd_num_elements": "distance in number of elements",
    "emd_density": "distance in density (g/cm³)",
    "stable_rate": "stable (%)",
    "sun_rate": "S.U.N. (%)",
}
PANEL_INCHES = (3.3, 2.3)
COLUMNS = 3


def write_reports(run_dirs: Sequence[Path]) -> str:
    """Writes each run's own report/learning.png, .pdf, .svg, .csv, .txt, _targets.csv and _totals.csv; gives the text.

    ValueError where a folder holds no finished run of `bench learn`.
    """
    return "\n\n".join(_write_report(Path(folder)) for folder in run_dirs)


def _write_report(folder: Path) -> str:
    run, curves = Run.open(folder), read_curves(folder)
    report, text = report_folder(folder), render([folder])
    save_figure(lambda: draw(curves, f"{dataset_spec(run.dataset).title}: what training costs"), report / STEM)
    contents = {
        f"{STEM}.txt": text,
        f"{STEM}.csv": curves_csv(run.dataset, curves),
        f"{STEM}_targets.csv": targets_csv(run.dataset, curves),
        f"{STEM}_totals.csv": totals_csv(run.dataset, curves),
    }
    for name, content in contents.items():
        write_text(report / name, content)
    return f"{text}\nLearning curves: {report / STEM}.{', .'.join([*SUFFIXES, 'csv'])}"


def draw(curves: Sequence[LearningCurve], title: str) -> Figure:
    """A panel for each metric with bands of 95 %, and one of the seconds for so many crystals."""
    from matplotlib.figure import Figure

    metrics = [metric for metric, _, _ in shown_metrics(curves) if metric in TITLES]
    kind = kind_of_crystals(curves)
    panels_needed = len(metrics) + 1
    rows = -(-panels_needed // COLUMNS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * COLUMNS, height * rows + 0.7), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, metric in zip(panels, metrics, strict=False):
        _draw_metric(panel, curves, metric)
    _draw_totals(panels[len(metrics)], curves, kind)
    for panel in panels[panels_needed:]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=FONT_SIZE + 1)
    legend_below(figure, panels[:1], most=5)
    return figure


def _draw_metric(panel: Axes, curves: Sequence[LearningCurve], metric: str) -> None:
    scale = 1.0 if metric.startswith("emd") else 100.0
    for place, curve in enumerate(curves):
        known = [(p.seconds, p.metrics[metric]) for p in curve.points if metric in p.metrics]
        known = [(seconds, figure) for seconds, figure in known if figure.value is not None]
        if not known:
            continue
        seconds = np.array([seconds for seconds, _ in known])
        values = scale * np.array([figure.value for _, figure in known], dtype=float)
        bounds = scale * np.array([figure.bounds for _, figure in known], dtype=float)
        colour, style, marker = line_of(place)
        panel.fill_between(seconds, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.12, linewidth=0)
        panel.plot(seconds, values, color=colour, linestyle=style, marker=marker, markersize=3, label=curve.method)
    floors = [p.metrics[f"{metric}_floor"] for c in curves for p in c.points if f"{metric}_floor" in p.metrics]
    if floors and floors[-1].value is not None:
        panel.axhline(floors[-1].value, color="black", linewidth=0.6, linestyle=":")
    panel.set_xscale("log")
    panel.set_xlabel("device seconds of training")
    panel.set_ylabel(TITLES[metric])
    plain_numbers(panel.xaxis, *panel.get_xlim())
    panel.set_ylim(bottom=0, top=None if metric.startswith("emd") else min(102.0, panel.get_ylim()[1]))
    panel.spines[["top", "right"]].set_visible(False)


def _draw_totals(panel: Axes, curves: Sequence[LearningCurve], kind: Kind) -> None:
    """One line for each training, by its best sampler and snapshot."""
    numbers = np.geomspace(1, 1e6, 121)
    trainings = [curve.training for curve in curves]
    for training, ways in offers(curves, kind).items():
        colour, style, _ = line_of(trainings.index(training))
        totals = [best_offer(ways, number).total(number) for number in numbers]
        panel.plot(numbers, totals, color=colour, linestyle=style, label=training)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(f"{kind} crystals wanted")
    panel.set_ylabel("device seconds in all")
    panel.spines[["top", "right"]].set_visible(False)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, fontsize=FONT_SIZE - 1.5)
