"""The options of `bench learn`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bench.cli.options import (
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
)
from bench.cli.screen import show

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
    from bench.commands.learn import Asked
    from bench.commands.learn import learn as learn_models

    asked = Asked(
        models=names(models),
        dataset=dataset,
        train_budget=train_budget,
        seeds=seeds,
        num_samples=num_samples,
        snapshots=snapshots,
        learning_rate_factors=names(learning_rate_factors),
        usual_sampler=None if usual_sampler is None else usual_sampler.value,
        clock=clock,
        tasks=names(tasks),
        preset=preset,
        device=device,
        potential=names(potential),
        hull=hull,
        seed=seed,
        threads=threads,
        out=out,
    )
    show(learn_models(asked, workers, resume))
