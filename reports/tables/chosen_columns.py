"""Columns for every metric that runs have: those that `--columns` names, and those that only the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.tables.columns import COLUMNS, Column, percent, three_digits

if TYPE_CHECKING:
    from reports.run_results import ModelResult

# Group -> how the names of its metrics begin; the first that fits.
GROUPS: dict[str, tuple[str, ...]] = {
    "Symmetry": ("p1_", "js_space_group", "js_crystal_system"),
    "Coverage": ("cov_", "amsd_", "amcd_", "emd_coordination_number"),
    "Diversity": ("structure_diversity", "composition_diversity", "structure_vendi", "composition_vendi"),
    "Memorisation": ("within_", "training_distance", "continuous_"),
    "Distributions": ("emd_", "js_", "median_", "hhi_"),
    "Good crystals": ("valid", "collapsed_rate", "stable_rate", "stable_by_", "unique_rate", "novel_rate", "sun_rate"),
    "Cost": (
        "seconds_",
        "evaluations_",
        "steps",
        "network_evaluations",
        "peak_",
        "energy_",
        "overshoot",
        "undisturbed",
        "sampling_",
        "scoring_",
    ),
}
OTHER = "Other"
TASKS = {"Symmetry": "symmetry", "Coverage": "coverage", "Diversity": "coverage", "Memorisation": "memorisation"}
FRACTIONS = ("valid", "p1_share", "cov_", "within_", "undisturbed_share")  # and whatever ends in _rate


def column_of(metric: str) -> Column:
    """The column of a metric: that of Table 1, or one under its own name."""
    own = next((column for column in COLUMNS if column.metric == metric), None)
    if own is not None:
        return own
    fraction = metric.startswith(FRACTIONS) or "_rate" in metric
    title = f"{metric} (%)" if fraction else metric
    group = next((name for name, prefixes in GROUPS.items() if metric.startswith(prefixes)), OTHER)
    show = percent if fraction else three_digits
    return Column(metric, group, title, title, show, None, TASKS.get(group))


def known_metrics(results: Sequence[ModelResult]) -> list[str]:
    """Every metric that one of these results has, Table 1's first."""
    own = [column.metric for column in COLUMNS]
    return list(dict.fromkeys([*own, *(metric for result in results for metric in result.metrics)]))


def chosen_columns(names: Sequence[str], results: Sequence[ModelResult]) -> list[Column]:
    """The columns of these metrics, in the order asked for. ValueError names the first unknown one and those known."""
    known = known_metrics(results)
    for name in names:
        if name not in known:
            raise ValueError(f"--columns {name}: there is no such metric in these runs; they have {', '.join(known)}")
    return [column_of(name) for name in dict.fromkeys(names)]


def further_columns(results: Sequence[ModelResult]) -> dict[str, list[Column]]:
    """Group -> columns of the metrics that Table 1 has not, for those that one of these results knows."""
    groups: dict[str, list[Column]] = {}
    shown = {column.metric for column in COLUMNS}
    for metric in known_metrics(results):
        if metric not in shown and any(result.known(metric) for result in results):
            column = column_of(metric)
            groups.setdefault(column.group, []).append(column)
    return {name: groups[name] for name in (*GROUPS, OTHER) if name in groups}
