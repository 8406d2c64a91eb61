"""The options of the commands that score a finished run again, or make a file or a site of some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import (
    Cluster,
    ExecutorKind,
    HullFile,
    HullRunTypes,
    Potential,
    RulesOption,
    RunFolder,
    Scheduler,
    Tasks,
    Where,
    Workers,
    names,
)
from bench.cli.screen import show
from bench.commands.given import Only

app = typer.Typer()


@app.command()
def rescore(
    run: RunFolder,
    tasks: Tasks = None,
    potential: Potential = None,
    hull: HullFile = None,
    hull_run_types: HullRunTypes = None,
    rules: RulesOption = None,
    workers: Workers = 2,
    executor: Where = ExecutorKind.local,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="score a copy of the run there; needed where RUN is an archive"),
    ] = None,
    keep_energies: Annotated[
        bool,
        typer.Option("--keep-energies", help="relax nothing: keep stored energies, and say anew what they mean"),
    ] = False,
) -> None:
    """Compute tasks anew on the stored crystals of a run; without --tasks, all that it has."""
    from bench.commands.archive import copy
    from bench.executor import open_executor
    from bench.rescoring import Rescoring
    from bench.rescoring import rescore as score_anew

    if out is not None:
        copy(run, out)
        run = out
    asked = Rescoring(
        tasks=names(tasks),
        potentials=names(potential),
        hull=hull,
        hull_run_types=names(hull_run_types),
        rules=rules and rules.value,
        keep_energies=keep_energies,
    )
    with open_executor(executor.value, scheduler, cluster, workers) as chosen:
        show(score_anew(run, asked, executor=chosen).text)


@app.command()
def archive(run: RunFolder, out: Annotated[Path, typer.Option("--out", "-o", help="NAME.zip")]) -> None:
    """Pack a finished run into one file, which report, leaderboard, check and baseline read as it is."""
    from bench.commands.archive import pack

    show(pack(run, out))


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="NAME.zip (CIFs and a table), .extxyz or .parquet")],
    model: Annotated[str | None, typer.Option(help="one or more, such as crysldm,diffcsp; default: all")] = None,
    only: Annotated[Only | None, typer.Option(help="sun: stable, unique and novel; default: all that exist")] = None,
    relaxed: Annotated[bool, typer.Option("--relaxed", help="as relaxed; default: as generated")] = False,
    potential: Annotated[str | None, typer.Option(help="whose verdict; default: the run's first")] = None,
) -> None:
    """Write crystals of a run to a file, with their energies and what else is known of them."""
    from bench.commands.export import Asked
    from bench.commands.export import export as write_export

    show(write_export(run, out, Asked(names(model), only, potential, relaxed)))


@app.command()
def site(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="runs, archives, rows, or folders of such")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="of the site")],
) -> None:
    """A static site of many runs: a list, leaderboards, each run's page, and how metrics moved from run to run."""
    from bench import registry

    show(str(registry.plugin("page", "site")(runs, out)))
