"""Rates by the number of atoms in the cell: large cells are harder, and a data set has few of some sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.arrays import BoolArray, IntArray
from bench.statistics import Metric, wilson
from reports.csv_text import csv_text
from reports.run_results import ModelResult, read_results
from reports.tables.columns import percent, with_interval
from reports.tables.formats import Format, grid

GROUPS = ((1, 5), (6, 10), (11, 20), (21, None))  # smallest and largest number of atoms
SIZES = "distribution"  # the task whose table has `num_atoms`
TITLES = ("Atoms", "Crystals", "Valid (%)", "Stable (%)", "S.U.N. (%)")
NOTE = "Rates are over the crystals of a row; what is no crystal has no size."
FLAGS = {"valid": ("validity", "valid"), "stable": ("stability", "stable")}


def render(run_dirs: Sequence[Path], format: Format = "text") -> str:
    """Valid, stable and S.U.N. rates of each model by number of atoms, with intervals.

    Rates are over the crystals of a group: what is no crystal has no size and is in none. ValueError as of
    `read_results`, and where a model was not scored with the task that counts atoms.
    """
    results = read_results(run_dirs)
    titles = ["Dataset", "Method", *TITLES]
    rows = [(result, *row) for result in results for row in rates_by_size(result)]
    if format == "csv":
        names = ["dataset", "model", "atoms", "crystals"]
        names += [rate + part for rate in ("valid", "stable", "sun") for part in ("", "_low", "_high")]
        return csv_text(
            names,
            [
                [result.run.dataset, result.label, group, number, *(part for rate in rates for part in _parts(rate))]
                for result, group, number, rates in rows
            ],
        )
    shown = [
        [result.dataset, result.method, group, number, *map(shown_rate, rates)] for result, group, number, rates in rows
    ]
    return f"{grid(titles, shown, format)}\n\nIn brackets: 95 % intervals. {NOTE}\n"


def rates_by_size(result: ModelResult) -> list[tuple[str, int, list[Metric | None]]]:
    """Group, its crystals, and the valid, stable and S.U.N. rate, None where a task was not scored or has unknowns."""
    run, model = result.run, result.model
    if not run.has_table(model, SIZES):
        raise ValueError(
            f"{run.root}: the atoms of {model} were not counted; `python -m bench rescore {run.root} --tasks {SIZES}`"
        )
    sizes = _column(result, SIZES, "num_atoms").astype(np.int64)
    flags = {name: _flags(result, task, column) for name, (task, column) in FLAGS.items()}
    unique, novel = (_flags(result, "novelty", column) for column in ("unique", "novel"))
    stable = flags["stable"]
    sun = None if stable is None or unique is None or novel is None else stable & unique & novel
    rows = []
    for low, high in GROUPS:
        inside = (sizes >= low) & (sizes <= (high or sizes.max(initial=0)))
        number = int(inside.sum())
        if number:
            rates = [
                None if flag is None else wilson(int(flag[inside].sum()), number) for flag in (*flags.values(), sun)
            ]
            rows.append((f"{low}-{high}" if high else f"> {low - 1}", number, rates))
    return rows


def _flags(result: ModelResult, task: str, column: str) -> BoolArray | None:
    """A column of booleans; None where the task was not scored or does not know one of them."""
    if not result.run.has_table(result.model, task):
        return None
    values = _column(result, task, column)
    return None if (values < 0).any() else np.asarray(values > 0)


def _column(result: ModelResult, task: str, column: str) -> IntArray:
    """Whole numbers of a column, -1 where there is none."""
    parts = [
        batch.column(column).cast("int64").fill_null(-1).to_numpy(zero_copy_only=False)
        for batch in result.run.scan(result.model, task, [column])
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def shown_rate(rate: Metric | None) -> str:
    """A rate in percent with its interval; a dash where it is not known."""
    return with_interval(rate, percent)


def _parts(rate: Metric | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if rate is None else (rate.value, rate.low, rate.high)
