"""Table 1 for machines: one row per model, every metric as it is stored, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from reports.csv_text import csv_text
from reports.run_results import ModelResult
from reports.tables.paper_rows import PrintedRow

PRINTED_RATES = ("valid_composition", "valid_structure", "stable_rate")
PRINTED_FIGURES = ("steps", "emd_num_elements", "emd_density", "steps_per_stable")


def to_csv(
    results: Sequence[ModelResult], printed: Sequence[PrintedRow], metrics: Sequence[str], only: bool = False
) -> str:
    """Columns METRIC, METRIC_low, METRIC_high and METRIC_n for these metrics; unless `only`, for all others as well.

    Rates are fractions in [0, 1], as the column `rates` says; a figure that does not exist is empty. `source` is
    measured or printed; of a printed row, only the stability's interval exists, which is computed here.
    """
    others = [] if only else [name for result in results for name in result.metrics]
    names = list(dict.fromkeys([*([] if only else ["steps"]), *metrics, *others]))
    identity = ["dataset", "model", "source", "run", "protocol", "requested", "rates"]
    fields = identity + [name + part for name in names for part in ("", "_low", "_high", "_n")]
    rows = [*map(_measured, results), *map(_printed, printed)]
    return csv_text(fields, [[{**row, "rates": "fraction"}.get(field, "") for field in fields] for row in rows])


def _measured(result: ModelResult) -> dict[str, object]:
    row: dict[str, object] = {
        "dataset": result.run.dataset,
        "model": result.label,
        "source": "measured",
        "run": result.run.name,
        "protocol": result.run.manifest["protocol_hash"],
        "requested": result.requested,
    }
    for name, metric in result.metrics.items():
        parts = {"": metric.value, "_low": metric.low, "_high": metric.high, "_n": metric.n}
        row |= {name + part: value for part, value in parts.items()}
    return row


def _printed(printed: PrintedRow) -> dict[str, object]:
    row: dict[str, object] = {"dataset": printed.dataset, "model": printed.method, "source": "printed"}
    row |= {name: round(float(getattr(printed, name)) / 100, 6) for name in PRINTED_RATES}
    row |= {name: getattr(printed, name) for name in PRINTED_FIGURES}
    for name, metric in (
        ("stable_rate", printed.stable_rate_metric),
        ("steps_per_stable", printed.steps_per_stable_metric),
    ):
        row |= {f"{name}_low": metric.low, f"{name}_high": metric.high, f"{name}_n": metric.n}
    return row
