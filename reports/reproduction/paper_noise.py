"""Which differences of the paper's Table 1 are larger than noise, from its own printed figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from bench.statistics import SIGNIFICANCE, Metric, difference_p_value, holm, wilson
from reports.paper_rows import PRINTED_ROWS, STABILITY_SAMPLES, PrintedRow
from reports.run_results import ModelResult

HEADERS = ("Data set", "Figure", "Pair", "Printed", "p", "Beyond noise")
RATES = {"valid_composition": "compos. %", "valid_structure": "struct. %", "stable_rate": "stable %"}
DISTANCES = {"emd_num_elements": "EMD # elem.", "emd_density": "EMD density"}


def noise_rows(results: Sequence[ModelResult]) -> list[list[str]]:
    """One row for each pair of printed methods and figure of the data sets of these results.

    A printed rate gets the interval of that many among 1000 crystals. The paper prints no error of a distance: it gets
    the one that was measured here for the same method and data set; pairs without one have no row.
    p-values are Holm-corrected over the pairs of a column and data set.
    """
    rows = []
    for dataset in dict.fromkeys(result.run.dataset for result in results):
        printed = [row for row in PRINTED_ROWS if row.dataset == dataset]
        measured = {r.method: r.metrics for r in results if r.run.dataset == dataset}
        title = next(result.dataset for result in results if result.run.dataset == dataset)
        for name, label in (RATES | DISTANCES).items():
            figures = {row.method: _printed(row, name, measured.get(row.method, {})) for row in printed}
            pairs = [p for p in combinations(printed, 2) if all(figures[row.method] is not None for row in p)]
            p_values = holm([difference_p_value(*(_known(figures[row.method]) for row in pair)) for pair in pairs])
            for (one, other), p in zip(pairs, p_values, strict=True):
                values = f"{getattr(one, name)} / {getattr(other, name)}"
                verdict = "yes" if p < SIGNIFICANCE else "no"
                rows.append([title, label, f"{one.method} / {other.method}", values, _p(p), verdict])
    return rows


def _printed(row: PrintedRow, name: str, measured: Mapping[str, Metric]) -> Metric | None:
    """A printed figure with an interval: a rate's own, or as wide as that of the distance measured here."""
    if name in RATES:
        return wilson(round(float(getattr(row, name)) / 100 * STABILITY_SAMPLES), STABILITY_SAMPLES)
    ours = measured.get(name)
    if ours is None or ours.value is None or ours.low is None or ours.high is None:
        return None
    value = float(getattr(row, name))
    return Metric(value, max(0.0, value - ours.value + ours.low), value + ours.high - ours.value, ours.n)


def _known(metric: Metric | None) -> Metric:
    return Metric(None) if metric is None else metric


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
