"""What each sampler's crystals are worth and cost, in the units of the measurement pages of docs/."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.statistics import Metric, quotient
from reports.run_results import ModelResult
from reports.tables.columns import count, distance, percent, three_digits, with_interval
from reports.tables.formats import DASH

HEADERS = (
    "Model",
    "evaluations",
    "composition %",
    "structure %",
    "EMD elements",
    "EMD density (valid)",
    "stable %",
    "S.U.N. %",
    "evaluations / valid crystal",
    "device s / stable, beside other work",
)
FIGURES: tuple[tuple[str, Callable[[float, int], str]], ...] = (
    ("valid_composition", percent),
    ("valid_structure", percent),
    ("emd_num_elements", distance),
    ("emd_density", distance),
    ("stable_rate", percent),
    ("sun_rate", percent),
)


def sampler_rows(results: Sequence[ModelResult]) -> list[list[str]]:
    """One row for each model of one data set that spends evaluations, the least of them first."""
    models = [result for result in results if not result.is_control and result.known("network_evaluations")]
    models.sort(key=lambda result: result.metrics["network_evaluations"].value or 0.0)
    return [_row(result) for result in models]


def _row(result: ModelResult) -> list[str]:
    evaluations = result.metrics["network_evaluations"]
    per_valid = quotient(evaluations, result.metrics.get("valid", Metric(None))).value
    return [
        result.method,
        count(evaluations.value or 0.0, evaluations.n),
        *(with_interval(result.metrics.get(name), show) for name, show in FIGURES),
        DASH if per_valid is None else three_digits(per_valid, 0),
        with_interval(result.metrics.get("seconds_per_stable"), three_digits),
    ]
