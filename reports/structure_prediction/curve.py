"""Match rate against device seconds: rows after each batch, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.atomic import write_text
from bench.statistics import wilson_bounds
from bench.store import Run, report_folder
from reports.csv_text import csv_text
from reports.figures.files import SUFFIXES, line_of, plain_numbers, save_figure
from reports.run_results import ModelResult, read_results
from reports.structure_prediction.table import STEM as TASK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEM = "match_curve"
COLUMNS = (
    "dataset",
    "model",
    "batch",
    "device_seconds",
    "samples",
    "compositions",
    "matched",
    "match_rate",
    "low",
    "high",
)


@dataclass(frozen=True)
class Curve:
    """After each of B batches that count. All (B,): device seconds since the first began, NaN where unknown; samples
    so far of all compositions together; compositions matched by then, among `num_compositions`.
    """

    seconds: np.ndarray
    samples: np.ndarray
    matched: np.ndarray
    num_compositions: int


def match_curve(run: Run, model: str) -> Curve:
    """What a model of a run of `bench csp` came to. ValueError where it was not scored."""
    folder = run.folders(model)[0]
    table = run.task_table(model, TASK, columns=["composition", "match"])
    n = int(run.manifest["protocol"]["tasks"][TASK]["compositions"]["compositions"])
    hits = np.array(table["match"].to_pylist(), dtype=bool)
    first = np.zeros(table.num_rows, dtype=bool)  # whether a row is the first match of its composition
    places = np.flatnonzero(hits)
    first[places[np.unique(table["composition"].to_numpy()[hits], return_index=True)[1]]] = True
    batches = [batch for batch in folder.batches if batch.counted]
    samples = np.cumsum([batch.num_crystals for batch in batches], dtype=np.int64)
    seconds = np.array([np.nan if batch.end_s is None else batch.end_s for batch in batches], dtype=np.float64)
    return Curve(seconds, samples, np.concatenate([[0], np.cumsum(first)])[samples], n)


def curve_csv(results: Sequence[ModelResult]) -> str:
    """A row after each batch of each model; match_rate with its interval over the compositions."""
    rows: list[Sequence[object]] = []
    for result in results:
        curve = match_curve(result.run, result.model)
        n = curve.num_compositions
        for batch, (seconds, samples, matched) in enumerate(
            zip(curve.seconds.tolist(), curve.samples.tolist(), curve.matched.tolist(), strict=True)
        ):
            low, high = wilson_bounds(matched, n)
            spent = "" if np.isnan(seconds) else seconds
            known = (result.run.dataset, result.label, batch, spent, samples, n, matched, matched / n)
            rows.append((*known, float(low), float(high)))
    return csv_text(COLUMNS, rows)


def write_reports(run_dirs: Sequence[Path]) -> str:
    """Writes each run's own report/match_curve.csv and, where seconds are known, .png, .pdf and .svg; says where."""
    return "\n".join(_write_report(Path(folder)) for folder in run_dirs)


def _write_report(folder: Path) -> str:
    results, report = read_results([folder]), report_folder(folder)
    write_text(report / f"{STEM}.csv", curve_csv(results))
    timed = [result for result in results if np.isfinite(match_curve(result.run, result.model).seconds).all()]
    if not timed:
        return f"Match rate after each batch: {report / STEM}.csv"
    save_figure(lambda: draw(timed), report / STEM)
    return f"Match rate against device seconds: {report / STEM}.{', .'.join([*SUFFIXES, 'csv'])}"


def draw(results: Sequence[ModelResult]) -> Figure:
    """One line for each model, with its band; points where a further sample of each composition is complete."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    panel = figure.subplots()
    least, most = np.inf, 0.0
    for place, result in enumerate(results):
        curve = match_curve(result.run, result.model)
        if not len(curve.seconds):
            continue
        n, (colour, style, marker) = curve.num_compositions, line_of(place)
        low, high = wilson_bounds(curve.matched, np.full(len(curve.matched), n))
        panel.fill_between(curve.seconds, 100 * low, 100 * high, step="post", color=colour, alpha=0.15, linewidth=0)
        panel.step(
            curve.seconds, 100 * curve.matched / n, where="post", color=colour, linestyle=style, label=result.method
        )
        full = np.searchsorted(curve.samples, n * np.arange(1, curve.samples[-1] // n + 1))
        panel.plot(curve.seconds[full], 100 * curve.matched[full] / n, marker, color=colour, markersize=3)
        least, most = min(least, max(curve.seconds[0], 1e-3)), max(most, curve.seconds[-1])
    panel.set_xscale("log")
    plain_numbers(panel.xaxis, least, most)
    panel.set_xlabel("device seconds of sampling")
    panel.set_ylabel("compositions matched (%)")
    panel.set_ylim(0, 100)
    panel.set_title(f"{results[0].dataset}: a point for each further sample of all compositions")
    panel.legend(frameon=False)
    return figure
