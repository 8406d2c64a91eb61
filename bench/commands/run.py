"""`bench run`: crystals of models, sampled and scored, as a new run or as one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench import runner
from bench.budget import Budget, parse_duration
from bench.commands.given import refuse_beside_resume
from bench.datasets.files import canonical_name
from bench.executor import Executor
from bench.model_specs import parse_models, with_compiled, with_meta


@dataclass(frozen=True)
class Asked:
    """The options as they were given; None where they were not."""

    models: str | None
    dataset: str | None
    num_samples: int | None
    budget: str | None
    budget_covers: Literal["sampling", "end-to-end"]
    tasks: tuple[str, ...] | None
    preset: str | None
    device: str | None
    potentials: tuple[str, ...] | None
    hull: Path | None
    hull_run_types: tuple[str, ...] | None
    rules: str | None
    seed: int | None
    repeats: int | None
    threads: int | None
    compiled: bool
    in_turns: bool
    meta: tuple[str, ...]
    out: Path | None


def run(
    asked: Asked, workers: int, executor: Callable[[], AbstractContextManager[Executor]], resume: Path | None = None
) -> str:
    """Runs what was asked for, or goes on with a run; gives its tables. ValueError says which option is wrong.

    executor: connects to where crystals are sampled and scored, once the options are known to be right.
    """
    if resume is not None:
        given = _given(asked, resume)
        with executor() as connected:
            return runner.resume(resume, given=given, executor=connected).text
    plan = _plan(asked, workers)
    with executor() as connected:
        return runner.run(plan, asked.out, executor=connected).text


def _plan(asked: Asked, workers: int) -> runner.Plan:
    limit = _limit(asked)
    if asked.models is None or asked.dataset is None:
        raise ValueError("bench run needs --models and --dataset, or --resume RUN; `bench models` lists what is known")
    specs = with_meta(parse_models(asked.models), asked.meta)
    return runner.Plan(
        models=with_compiled(specs) if asked.compiled else specs,
        dataset=asked.dataset,
        budget=limit,
        tasks=asked.tasks,
        preset=asked.preset or "cpu",
        device=asked.device or "auto",
        potentials=asked.potentials or (),
        hull=asked.hull,
        hull_run_types=asked.hull_run_types or (),
        rules=asked.rules,
        seed=asked.seed or 0,
        repeats=1 if asked.repeats is None else asked.repeats,
        workers=workers,
        threads=asked.threads,
        in_turns=asked.in_turns,
    )


def _given(asked: Asked, run: Path) -> dict[str, object]:
    """What was named beside --resume, which `runner.resume` holds against the run. ValueError names what cannot be."""
    refuse_beside_resume({"--meta": asked.meta or None}, run)
    limit = _limit(asked)
    return {
        "models": asked.models,
        "dataset": asked.dataset and canonical_name(asked.dataset),
        "budget": limit and limit.to_json(),
        "tasks": asked.tasks,
        "preset": asked.preset,
        "device": asked.device,
        "potentials": asked.potentials,
        "hull": None if asked.hull is None else str(asked.hull.resolve()),
        "hull_run_types": asked.hull_run_types,
        "rules": asked.rules,
        "seed": asked.seed,
        "repeats": asked.repeats,
        "threads": asked.threads,
        "compile": asked.compiled or None,
        "in_turns": asked.in_turns or None,
        "out": None if asked.out is None else str(asked.out),
    }


def _limit(asked: Asked) -> Budget | None:
    """What --num-samples and --budget allow each model; None for the default."""
    if asked.num_samples is not None or asked.budget is not None:
        seconds = None if asked.budget is None else parse_duration(asked.budget)
        return Budget(asked.num_samples, seconds, asked.budget_covers)
    if asked.budget_covers != "sampling":
        raise ValueError(f"--budget-covers {asked.budget_covers} needs --budget")
    return None
