"""The commands that make a file or a site of finished runs: parsing only, as in `bench.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import Only, RunFolder, names
from bench.commands.screen import show

app = typer.Typer()


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
