"""Which differences between the models are larger than noise: those that the paper prints, and ours beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from bench.statistics import SIGNIFICANCE, Metric, pairwise_p_values, wilson
from reports.run_results import ModelResult
from reports.tables.formats import DASH
from reports.tables.paper_rows import PRINTED_ROWS, STABILITY_SAMPLES, PrintedRow

HEADERS = ("Data set", "Figure", "Pair", "Printed", "p", "Beyond noise", "Ours", "p", "Beyond noise")
RATES = {"valid_composition": "compos. %", "valid_structure": "struct. %", "stable_rate": "stable %"}
DISTANCES = {"emd_num_elements": "EMD # elem.", "emd_density": "EMD density"}

Pair = tuple[str, str]


def noise_rows(results: Sequence[ModelResult]) -> list[list[str]]:
    """One row for each pair of printed methods and figure of the data sets of these results.

    A printed rate gets the interval of that many among 1000 crystals. The paper prints no error of a distance: it gets
    the one that was measured here for the same method and data set; pairs without one have a dash.
    p-values are Holm-corrected over the pairs of a column and data set, the paper's and ours apart.
    """
    rows = []
    for dataset in dict.fromkeys(result.run.dataset for result in results):
        printed = {row.method: row for row in PRINTED_ROWS if row.dataset == dataset}
        measured = {r.method: r.metrics for r in results if r.run.dataset == dataset}
        title = next(result.dataset for result in results if result.run.dataset == dataset)
        for name, label in (RATES | DISTANCES).items():
            ours = {method: measured.get(method, {}).get(name, Metric(None)) for method in printed}
            theirs = {method: printed_metric(row, name, ours[method]) for method, row in printed.items()}
            p_printed, p_ours = (_p_values(figures) for figures in (theirs, ours))
            for pair in combinations(printed, 2):
                values = " / ".join(getattr(printed[method], name) for method in pair)
                own = " / ".join(_shown(ours[method], name in RATES) for method in pair)
                verdicts = [values, *_verdict(p_printed.get(pair)), own, *_verdict(p_ours.get(pair))]
                rows.append([title, label, " / ".join(pair), *verdicts])
    return rows


def printed_metric(row: PrintedRow, name: str, measured: Metric) -> Metric:
    """A printed figure with an interval: a rate's own, or as wide as that of the distance measured here."""
    if name in RATES:
        return wilson(round(float(getattr(row, name)) / 100 * STABILITY_SAMPLES), STABILITY_SAMPLES)
    if measured.value is None or measured.low is None or measured.high is None:
        return Metric(None)
    value = float(getattr(row, name))
    low, high = value - measured.value + measured.low, value + measured.high - measured.value
    return Metric(value, max(0.0, low), high, measured.n)


def _p_values(figures: Mapping[str, Metric]) -> dict[Pair, float]:
    """Of the pairs whose figures are both known."""
    return pairwise_p_values({method: figure for method, figure in figures.items() if figure.value is not None})


def _shown(figure: Metric, is_rate: bool) -> str:
    if figure.value is None:
        return DASH
    return f"{100 * figure.value:.1f}" if is_rate else f"{figure.value:.3f}"


def _verdict(p: float | None) -> tuple[str, str]:
    if p is None:
        return DASH, DASH
    return ("< 0.001" if p < 0.001 else f"{p:.3f}"), ("yes" if p < SIGNIFICANCE else "no")
