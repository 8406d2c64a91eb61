"""The command `bench learn`: parsing only, as in `bench.cli`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bench.commands.options import (
    HullFile,
    Potential,
    Resume,
    RunDevice,
    RunOut,
    RunPreset,
    RunSeed,
    Tasks,
    Threads,
    Workers,
    names,
    refuse_beside_resume,
)
from bench.commands.screen import show

app = typer.Typer()


class Usual(StrEnum):
    """Values of --usual-sampler."""

    all = "all"
    last = "last"
    none = "none"


class Clock(StrEnum):
    """Values of --clock."""

    device = "device"
    cpu = "cpu"


@app.command()
def learn(
    models: Annotated[
        str | None, typer.Option(help="to be trained: crysldm,diffcsp,cdvae, a plug-in's name or module:Class")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="perov5 or mp20")] = None,
    train_budget: Annotated[
        str | None, typer.Option(help="device time of each training, such as 90s, 30m or 1h")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="trainings of each model; default 3")] = None,
    num_samples: Annotated[int | None, typer.Option(help="crystals of each snapshot and seed")] = None,
    snapshots: Annotated[
        int | None, typer.Option(help="of each training, each at twice the time of the one before; default 6")
    ] = None,
    learning_rate_factors: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="train with these multiples of the learning rate too, such as 0.5,2"),
    ] = None,
    usual_sampler: Annotated[
        Usual | None, typer.Option(help="snapshots that the usual sampler samples too, not the few-step one alone")
    ] = None,
    clock: Annotated[
        Clock | None, typer.Option(help="cpu: CPU seconds instead, for one thread on a machine that others use too")
    ] = None,
    tasks: Tasks = None,
    preset: RunPreset = None,
    device: RunDevice = None,
    potential: Potential = None,
    hull: HullFile = None,
    seed: RunSeed = None,
    threads: Threads = None,
    workers: Workers = 2,
    out: RunOut = None,
    resume: Resume = None,
) -> None:
    """Train models from scratch, and show how good their crystals are after so much training."""
    from bench import runner
    from bench.budget import Budget, parse_duration
    from bench.learning.plan import SNAPSHOTS, LearningPlan

    if resume is not None:
        given = {
            "--models": models,
            "--dataset": dataset,
            "--train-budget": train_budget,
            "--seeds": seeds,
            "--num-samples": num_samples,
            "--snapshots": snapshots,
            "--learning-rate-factors": learning_rate_factors,
            "--usual-sampler": usual_sampler,
            "--clock": clock,
            "--tasks": tasks,
            "--preset": preset,
            "--device": device,
            "--potential": potential,
            "--hull": hull,
            "--seed": seed,
            "--threads": threads,
            "--out": out,
        }
        refuse_beside_resume(given, resume)
        show(runner.resume(resume, workers).text)
        return
    chosen = names(models)
    if chosen is None or dataset is None or train_budget is None:
        raise ValueError("bench learn needs --models, --dataset and --train-budget, or --resume RUN")
    learning = LearningPlan(
        models=chosen,
        budget_s=parse_duration(train_budget, "--train-budget"),
        seeds=3 if seeds is None else seeds,
        snapshots=SNAPSHOTS if snapshots is None else snapshots,
        factors=_factors(learning_rate_factors),
        usual=(usual_sampler or Usual.all).value,
        cpu_time=clock is Clock.cpu,
    )
    plan = runner.Plan(
        models=(),
        dataset=dataset,
        budget=None if num_samples is None else Budget(num_samples),
        tasks=names(tasks),
        preset=preset or "cpu",
        device=device or "auto",
        potentials=names(potential) or (),
        hull=hull,
        seed=seed or 0,
        workers=workers,
        threads=threads,
        learning=learning,
    )
    show(runner.run(plan, out).text)


def _factors(text: str | None) -> tuple[float, ...]:
    """The numbers in "0.5,2". ValueError where one is none."""
    try:
        return tuple(float(part) for part in names(text) or ())
    except ValueError:
        raise ValueError(f"--learning-rate-factors {text!r}: write numbers such as 0.5,2") from None
