"""Yield curves of a stored run: which crystals count, and what each batch cost, from its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.interfaces import flags
from bench.store import Run
from reports.run_results import ModelResult
from reports.yields.curves import AXES, Axis, Kind, Repeat, YieldCurve

# Columns that have to be true, by task, and the tasks of each kind. A kind is shown where a run has all of its tasks.
COLUMNS = {"validity": ["valid"], "stability": ["stable"], "novelty": ["unique", "novel"]}
KINDS: Mapping[Kind, Sequence[str]] = {
    "valid": ["validity"],
    "stable": ["stability"],
    "sun": ["stability", "novelty"],
    "vun": ["validity", "novelty"],
}
INSTEAD: Mapping[Kind, Kind] = {"vun": "sun"}  # shown only where that one cannot be


def kinds_of(tasks: Sequence[str]) -> list[Kind]:
    """The kinds of crystals that a run with these tasks can count."""
    possible = [kind for kind, needed in KINDS.items() if set(needed) <= set(tasks)]
    return [kind for kind in possible if INSTEAD.get(kind) not in possible]


def yield_curves(result: ModelResult) -> list[YieldCurve]:
    """A model's curves, of each kind against each cost that is known of all its batches.

    None of a control, whose crystals cost next to nothing, nor of a file that does not say what its crystals cost.
    """
    run, model = result.run, result.model
    if result.is_control:
        return []
    kinds = kinds_of([task for task in run.tasks if run.has_table(model, task)])
    hits = [_hits(run, model, repeat, kinds) for repeat in range(len(run.folders(model)))]
    budget = run.manifest["budget"]
    covered: Axis | None = "end_to_end" if budget.get("covers") == "end-to-end" else "seconds"
    if run.manifest["models"][model]["kind"] == "file":
        covered = None
    seed, batches = int(run.manifest["seed"]), run.batches(model)
    curves = []
    for axis in AXES:
        cost_of = _costs(batches, axis)
        if cost_of is None:
            continue
        for kind in kinds:
            repeats = tuple(
                _repeat(cost_of(repeat), found[kind][0], budget.get("seconds") if axis == covered else None)
                for repeat, found in enumerate(hits)
            )
            unknown = sum(found[kind][1] for found in hits)
            curves.append(YieldCurve(result.method, kind, axis, repeats, seed, unknown, "seconds" in budget))
    return curves


def _hits(run: Run, model: str, repeat: int, kinds: Sequence[Kind]) -> dict[Kind, tuple[BoolArray, int]]:
    """For each kind, which crystals of a repeat count, in sampling order, and of how many that is not known."""
    tasks = dict.fromkeys(task for kind in kinds for task in KINDS[kind])
    tables = {task: run.task_table(model, task, repeat, COLUMNS[task]) for task in tasks}
    found = {}
    for kind in kinds:
        columns = [tables[task][column] for task in KINDS[kind] for column in COLUMNS[task]]
        sure, possible = (_all_true(columns, if_null) for if_null in (False, True))
        found[kind] = sure, int((possible & ~sure).sum())
    return found


@dataclass(frozen=True, eq=False)
class _Costs:
    """(K,) cost of each batch of a repeat, the crystals asked for in it, and whether it counts."""

    costs: FloatArray
    crystals: IntArray
    counted: BoolArray


def _costs(batches: pa.Table, axis: Axis) -> Callable[[int], _Costs] | None:
    """Repeat -> what its batches cost; None where that is not known of all, or nothing."""

    def column(name: str) -> FloatArray:
        return np.array([np.nan if v is None else v for v in batches[name].to_pylist()], dtype=np.float64)

    costs = column("network_evaluations") if axis == "evaluations" else column("end_s") - column("start_s")
    if axis == "end_to_end":
        costs = costs + column("scoring_s")
    if not (np.isfinite(costs).all() and costs.sum() > 0):
        return None
    repeats, crystals, counted = column("repeat"), column("num_crystals"), column("counted")

    def of(repeat: int) -> _Costs:
        own = repeats == repeat
        return _Costs(costs[own], crystals[own].astype(np.int64), counted[own].astype(bool))

    return of


def _repeat(batches: _Costs, hits: BoolArray, budget: float | None) -> Repeat:
    """hits: (crystals that count,) in sampling order. budget: of the run, on this cost's axis."""
    counted = batches.counted
    ends, crystals = np.cumsum(batches.costs[counted]), batches.crystals[counted]
    places = np.concatenate([[0], np.cumsum(crystals)])
    found = np.concatenate([[0], np.cumsum(hits)])
    until = float(ends[-1]) if len(ends) else 0.0
    return Repeat(ends, crystals, np.diff(found[places]), float(batches.costs.sum()), max(until, budget or 0.0))


def _all_true(columns: Sequence[pa.ChunkedArray], if_null: bool) -> BoolArray:
    return np.asarray(np.logical_and.reduce([flags(column, if_null) for column in columns]), dtype=bool)
