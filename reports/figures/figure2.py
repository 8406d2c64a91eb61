"""Figure 2: energy above hull of the relaxed crystals of a run's models, readable in black and white."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.atomic import write_text
from bench.store import report_folder
from reports.figures.files import FONT_SIZE, legend_below, save_figure
from reports.figures.hull_histogram import HullHistogram, histograms_csv, hull_histograms
from reports.run_results import read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEM = "figure2"
WIDTH_INCHES, PANEL_INCHES, MARGIN_INCHES = 6.4, 1.25, 1.0


def write_reports(run_dirs: Sequence[Path]) -> str:
    """Writes each run's own report/figure2.png, .pdf and .csv; gives a line for each that names the files.

    A run whose crystals were not relaxed, so that there is nothing to show, is passed over. ValueError where a folder
    holds no finished run.
    """
    return "\n".join(filter(None, [_write_report(Path(folder)) for folder in run_dirs]))


def _write_report(folder: Path) -> str:
    results = [result for result in read_results([folder]) if result.run.has_table(result.model, "stability")]
    if not results:
        return ""
    histograms = hull_histograms(results)
    report = report_folder(folder)
    write_text(report / f"{STEM}.csv", histograms_csv(results[0].run.dataset, histograms))
    save(histograms, title(results[0].dataset), report / STEM)
    return f"Figure 2: {report / STEM}.png, .pdf, .csv"


def title(dataset: str) -> str:
    """What stands above the panels of a data set."""
    return f"{dataset}: energy above hull of relaxed crystals, in % of those asked for"


def save(histograms: Sequence[HullHistogram], heading: str, stem: Path) -> None:
    """Draws the figure into STEM.png and STEM.pdf."""
    save_figure(lambda: draw(histograms, heading), stem, ("png", "pdf"))


def draw(histograms: Sequence[HullHistogram], heading: str) -> Figure:
    """One panel for each model, on the same axes: bars in percent of the crystals asked for."""
    from matplotlib.figure import Figure

    height = PANEL_INCHES * len(histograms) + MARGIN_INCHES
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    panels = figure.subplots(len(histograms), sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, histogram in zip(panels, histograms, strict=True):
        draw_panel(panel, histogram)
        panel.set_title(histogram.method, loc="left", fontsize=FONT_SIZE, fontweight="bold", pad=3)
        panel.set_title(in_words(histogram), loc="right", fontsize=FONT_SIZE, pad=3)
    same_axes(panels[-1], histograms)
    panels[-1].set_xlabel("energy above hull (eV/atom)")
    figure.supylabel("% of crystals", fontsize=FONT_SIZE)
    figure.suptitle(heading, fontsize=9)
    legend_below(figure, panels)
    return figure


def same_axes(panel: Axes, histograms: Sequence[HullHistogram]) -> None:
    """Limits that fit all of these histograms."""
    panel.set_xlim(float(histograms[0].edges[0]), float(histograms[0].edges[-1]))
    panel.set_ylim(0, 100 * max(0.01, *(histogram.shares.max() for histogram in histograms)) * 1.15)


def draw_panel(panel: Axes, histogram: HullHistogram) -> None:
    """Bars in percent of the crystals asked for, the threshold and the median, without titles."""
    left, widths = histogram.edges[:-1], np.diff(histogram.edges)
    percent = 100 / max(histogram.requested, 1)
    done, not_done = percent * histogram.converged, percent * histogram.unconverged
    panel.bar(left, done, widths, align="edge", color="0.75", edgecolor="black", linewidth=0.6, label="converged")
    if histogram.unconverged.any():
        panel.bar(
            left, not_done, widths, done, align="edge", color="white", edgecolor="black", linewidth=0.6, hatch="/////",
            label="not converged",
        )  # fmt: skip
    line = histogram.stable_below
    panel.axvline(line, color="black", linestyle="--", linewidth=0.9, label=f"{line:g} eV/atom")
    middle = histogram.median.value
    if middle is not None and histogram.edges[0] <= middle <= histogram.edges[-1]:
        panel.plot(
            middle, 0.97, marker="v", color="black", markersize=6, linestyle="none", clip_on=False, label="median",
            transform=panel.get_xaxis_transform(),
        )  # fmt: skip
    panel.spines[["top", "right"]].set_visible(False)


def in_words(histogram: HullHistogram) -> str:
    """What a panel says in words: the median, and the crystals that no bar shows."""
    middle, words = histogram.median, []
    if middle.value is not None:
        interval = "" if middle.low is None else f" [{middle.low:.2f}, {middle.high:.2f}]"
        words.append(f"median {middle.value:.2f}{interval}")
    for number, text in (
        (histogram.above, f"above {histogram.edges[-1]:g} →"),
        (histogram.below, f"below {histogram.edges[0]:g}"),
        (histogram.missing, "no energy"),
    ):
        if number:
            words.append(f"{100 * number / histogram.requested:.1f} % {text}")
    return ", ".join(words)
