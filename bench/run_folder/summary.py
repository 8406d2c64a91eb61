"""summary.json: each model's metrics and its ledger, from the store and the task tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import registry
from bench.interfaces import Task, flags
from bench.learning.curves import curves
from bench.progress import say
from bench.run_folder.ledger import ledger
from bench.run_folder.relaxed import relaxed_crystals
from bench.statistics import Metric, combine, combine_shared
from bench.store import Run, read_state

if TYPE_CHECKING:
    import pyarrow as pa

    from bench.datasets import ReferenceCard


class TaskTables(Mapping[str, "pa.Table"]):
    """The task tables of one repeat by task name, each read when it is first asked for."""

    def __init__(self, run: Run, model: str, repeat: int) -> None:
        self._run, self._model, self._repeat = run, model, repeat
        self._read: dict[str, pa.Table] = {}

    def __getitem__(self, task: str) -> pa.Table:
        if task not in self._run.tasks:
            raise KeyError(task)
        if task not in self._read:
            self._read[task] = self._run.task_table(self._model, task, self._repeat)
        return self._read[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.tasks)

    def __len__(self) -> int:
        return len(self._run.tasks)


def summarise(run: Run, tasks: Sequence[Task], reference: ReferenceCard) -> dict[str, Any]:
    """The content of summary.json. skipped: model -> why it gave nothing. about: what a task says of its figures.

    curves: of a run of `bench learn`, whose models have their figures seed by seed besides.
    """
    entries = run.manifest["models"]
    models = {name: summarise_model(run, name, tasks, reference) for name in run.models if name not in run.skipped}
    learned = {"curves": curves(run, models)} if "learning" in run.manifest else {}
    return {
        "dataset": run.dataset,
        "protocol_hash": run.manifest["protocol_hash"],
        "models": models,
        **learned,
        "skipped": {name: entries[name]["skipped"] for name in run.skipped},
        "about": {task.name: dict(task.about()) for task in tasks if hasattr(task, "about")},
    }


def summarise_model(run: Run, model: str, tasks: Sequence[Task], reference: ReferenceCard) -> dict[str, Any]:
    """Requested crystals, ledger and metrics of one model over its repeats."""
    folders = run.folders(model)
    seed = int(run.manifest["seed"])
    requested = sum(folder.counted for folder in folders)
    metrics = costs(run, model, requested, seed)
    # Every repeat has as many crystals as the others, so figures that depend on their number are averaged, not pooled.
    by_repeat = []
    for repeat, folder in enumerate(folders):
        if folder.counted:
            tables, found = TaskTables(run, model, repeat), dict[str, Metric]()
            for task in tasks:
                own = task.summary(tables, reference, seed)
                if taken := own.keys() & (found.keys() | metrics.keys()):
                    raise ValueError(f"task {task.name}: another one has the metric {', '.join(sorted(taken))} already")
                found |= own
            by_repeat.append(found | by_relaxed(run, model, repeat, tables))
    for name in by_repeat[0] if by_repeat else ():
        repeats = [found[name] for found in by_repeat if name in found]
        if is_calibrated(name):
            metrics[name] = combine_shared(repeats)
        else:
            metrics[name] = combine(repeats, most=1.0 if is_rate(name) else None)
    if "stable_rate_calibrated" in metrics:
        metrics |= registry.plugin("cost", "calibrated")(
            run.batches(model), metrics["stable_rate_calibrated"], metrics["scoring_seconds"].value
        )
    if rates := {name: rate for name, rate in metrics.items() if re.fullmatch(r"match_rate(_\d+)?", name)}:
        metrics |= registry.plugin("cost", "prediction")(run.batches(model), rates)
    content = {
        "requested": requested,
        "ledger": ledger(run, model),
        "metrics": {name: metric.to_json() for name, metric in metrics.items()},
    }
    if "learning" in run.manifest:
        content["by_seed"] = [{name: metric.value for name, metric in found.items()} for found in by_repeat]
    return content


def by_relaxed(run: Run, model: str, repeat: int, tables: Mapping[str, pa.Table]) -> dict[str, Metric]:
    """S.U.N. by the relaxed crystals of one repeat; nothing where they were not kept, as by earlier versions."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not {"stability", "novelty"} <= set(run.tasks):
        return {}
    kept = run.relaxed(model, "stability", repeat)
    if kept is None:
        return {}
    stability = tables["stability"]
    stable = np.flatnonzero(flags(stability["stable"]))
    rows = kept.filter(pc.is_in(kept["index"], pa.array(stable, pa.int64())))
    if rows.num_rows != len(stable):
        say(f"{model}: no sun_rate_relaxed, {rows.num_rows} of {len(stable)} stable crystals were kept as relaxed")
        return {}
    sun: Metric = registry.plugin("relaxed", "sun")(
        run.dataset, relaxed_crystals(rows), stability.num_rows, run.manifest.get("rules")
    )
    return {"sun_rate_relaxed": sun}


def costs(run: Run, model: str, requested: int, seed: int) -> dict[str, Metric]:
    """What the crystals cost, all repeats together."""
    folders = run.folders(model)
    states = [read_state(folder.files) for folder in folders]
    stable = None
    if "stability" in run.tasks and requested:
        columns = [batch.column(0) for batch in run.scan(model, "stability", ["stable"])]
        stable = np.concatenate([column.to_numpy(zero_copy_only=False) for column in columns])
    scoring = sum(seconds for state in states for seconds in state["scoring_seconds"].values())
    metrics: dict[str, Metric] = registry.plugin("cost", "cost")(
        batches=run.batches(model), requested=requested, stable=stable, scoring_seconds=scoring, seed=seed
    )
    budget = run.manifest["budget"].get("seconds")
    ends = [folder.spent_s for folder in folders]
    sampled: dict[str, float | None] = {
        "overshoot_seconds": 0.0 if budget is None else sum(max(0.0, end - budget) for end in ends),
        "wall_seconds": sum(batch.wall_s for folder in folders for batch in folder.batches),
        "load_seconds": max(state["load_seconds"] for state in states),
        "warmup_seconds": max(state["warmup_seconds"] for state in states),
    }
    if any("compile_seconds" in state for state in states):
        sampled["compile_seconds"] = max(state.get("compile_seconds", 0.0) for state in states)
    if run.manifest["models"][model]["kind"] == "file":
        said = run.manifest["models"][model].get("costs", {})
        sampled = {name: said.get(name) for name in sampled}
        # One figure for all crystals, spread evenly over batches: it has no interval.
        spread = ("seconds_per_crystal", "network_evaluations")
        metrics |= {name: Metric(metrics[name].value, n=metrics[name].n) for name in spread}
    return {
        **metrics,
        **{name: Metric(seconds, n=requested) for name, seconds in sampled.items()},
        "scoring_seconds": Metric(scoring, n=requested),
    }


def is_calibrated(name: str) -> bool:
    """Whether a metric went through a calibration, whose error all repeats share."""
    return name.partition("[")[0].endswith("_calibrated")


def is_rate(name: str) -> bool:
    """Whether a metric is a fraction of the crystals."""
    base = name.partition("[")[0].removesuffix("_calibrated").removesuffix("_relaxed")
    return base.endswith("_rate") or base.startswith("valid")
