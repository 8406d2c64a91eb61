"""`bench learn`: models trained from scratch and judged on the way, as a run with trainings of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import runner
from bench.budget import Budget, parse_duration
from bench.commands.given import refuse_beside_resume
from bench.learning.plan import SNAPSHOTS, LearningPlan, Usual


@dataclass(frozen=True)
class Asked:
    """The options as they were given and are named; None where they were not."""

    models: tuple[str, ...] | None
    dataset: str | None
    train_budget: str | None
    seeds: int | None
    num_samples: int | None
    snapshots: int | None
    learning_rate_factors: tuple[str, ...] | None
    usual_sampler: Usual | None
    clock: str | None
    tasks: tuple[str, ...] | None
    preset: str | None
    device: str | None
    potential: tuple[str, ...] | None
    hull: Path | None
    seed: int | None
    threads: int | None
    out: Path | None


def learn(asked: Asked, workers: int, resume: Path | None = None) -> str:
    """Trains what was asked for, or goes on with a run; gives its tables. ValueError says which option is wrong."""
    if resume is not None:
        refuse_beside_resume({f"--{name.replace('_', '-')}": value for name, value in vars(asked).items()}, resume)
        return runner.resume(resume, workers).text
    if asked.models is None or asked.dataset is None or asked.train_budget is None:
        raise ValueError("bench learn needs --models, --dataset and --train-budget, or --resume RUN")
    plan = runner.Plan(
        models=(),
        dataset=asked.dataset,
        budget=None if asked.num_samples is None else Budget(asked.num_samples),
        tasks=asked.tasks,
        preset=asked.preset or "cpu",
        device=asked.device or "auto",
        potentials=asked.potential or (),
        hull=asked.hull,
        seed=asked.seed or 0,
        workers=workers,
        threads=asked.threads,
        learning=LearningPlan(
            models=asked.models,
            budget_s=parse_duration(asked.train_budget, "--train-budget"),
            seeds=3 if asked.seeds is None else asked.seeds,
            snapshots=SNAPSHOTS if asked.snapshots is None else asked.snapshots,
            factors=_factors(asked.learning_rate_factors or ()),
            usual=asked.usual_sampler or "all",
            cpu_time=asked.clock == "cpu",
        ),
    )
    return runner.run(plan, asked.out).text


def _factors(texts: Sequence[str]) -> tuple[float, ...]:
    """The numbers in "0.5", "2". ValueError where one is none."""
    try:
        return tuple(map(float, texts))
    except ValueError:
        raise ValueError(f"--learning-rate-factors {','.join(texts)!r}: write numbers such as 0.5,2") from None
