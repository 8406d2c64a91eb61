"""`bench csp`: crystal structure prediction, as a run with a task of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import runner
from bench.budget import Budget, parse_duration
from bench.commands.given import refuse_beside_resume
from bench.datasets.files import canonical_name
from bench.model_specs import parse_models, with_meta
from bench.prediction.compositions import PredictionPlan


@dataclass(frozen=True)
class Asked:
    """The options as they were given; None where they were not."""

    models: str | None
    dataset: str | None
    num_compositions: int | None
    draw: bool
    samples: int | None
    budget: str | None
    by_formula: bool
    preset: str | None
    device: str | None
    seed: int | None
    threads: int | None
    meta: tuple[str, ...]
    out: Path | None


def predict(asked: Asked, workers: int, resume: Path | None = None) -> str:
    """Runs what was asked for, or goes on with a run; gives its tables. ValueError says which option is wrong."""
    limit = None if asked.budget is None else Budget(seconds=parse_duration(asked.budget))
    if resume is not None:
        return runner.resume(resume, workers, _given(asked, limit, resume)).text
    if asked.models is None or asked.dataset is None:
        raise ValueError("bench csp needs --models and --dataset, or --resume RUN; `bench models` lists what is known")
    if asked.budget is not None and asked.samples is not None:
        raise ValueError("either --samples or --budget says how many samples a composition has; leave one of them out")
    plan = runner.Plan(
        models=with_meta(parse_models(asked.models), asked.meta),
        dataset=asked.dataset,
        budget=limit,
        preset=asked.preset or "cpu",
        device=asked.device or "auto",
        seed=asked.seed or 0,
        workers=workers,
        threads=asked.threads,
        prediction=PredictionPlan(asked.num_compositions, asked.draw, asked.samples, asked.by_formula),
    )
    return runner.run(plan, asked.out).text


def _given(asked: Asked, limit: Budget | None, run: Path) -> dict[str, object]:
    """What was named beside --resume, which `runner.resume` holds against the run. ValueError names what cannot be."""
    cannot = {
        "--meta": asked.meta or None,
        "--num-compositions": asked.num_compositions or None,
        "--samples": asked.samples or None,
        "--draw": asked.draw or None,
        "--by-formula": asked.by_formula or None,
    }
    refuse_beside_resume(cannot, run)
    return {
        "models": asked.models,
        "dataset": asked.dataset and canonical_name(asked.dataset),
        "budget": limit and limit.to_json(),
        "preset": asked.preset,
        "device": asked.device,
        "seed": asked.seed,
        "threads": asked.threads,
        "out": None if asked.out is None else str(asked.out),
    }
