"""The options of the commands about rows: published models beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Potential, Tasks, Workers, names
from bench.cli.screen import show
from bench.progress import say

app = typer.Typer(help="Published models as rows beside yours.", no_args_is_help=True)
Rows = Annotated[list[Path] | None, typer.Argument(metavar="[ROW]...", help="default: all folders in rows/")]
Samples = Annotated[
    Path | None, typer.Option(metavar="FILE", help="the crystals of the one row, where they are not in its folder")
]
FOLDER = Path("rows")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="crystals in one file that `bench score` reads")],
    name: Annotated[str, typer.Option(help="of the row's folder")],
    model: Annotated[str, typer.Option("--model-title", help="the model's name in tables")],
    dataset: Annotated[str, typer.Option(help="by whose protocol it is scored: perov5 or mp20")],
    source: Annotated[str, typer.Option(help="where the crystals were published: an address or a DOI")],
    licence: Annotated[str, typer.Option(help="of the crystals, such as MIT")],
    crystals: Annotated[str, typer.Option(help="generated, relaxed (by the author) or chosen (a selection)")],
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="another field of the card; repeatable; docs/rows.md"),
    ] = None,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="do not copy the file: its licence forbids it, or it is large")
    ] = False,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="of all rows")] = FOLDER,
) -> None:
    """Make the folder of a row: a card of these fields and, unless it stays elsewhere, a copy of the file."""
    from bench.rows.adding import add as add_row

    said: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "source": source,
        "licence": licence,
        "crystals": crystals,
    }
    show(add_row(file, to, name, said, set or (), copied=not elsewhere))


@app.command()
def score(
    rows: Rows = None,
    tasks: Tasks = None,
    potential: Potential = None,
    samples: Samples = None,
    work: Annotated[Path, typer.Option(metavar="FOLDER", help="where the runs lie; a stopped one goes on")] = Path(
        "runs/rows"
    ),
    workers: Workers = 2,
) -> None:
    """Score rows by today's protocol; writes manifest.json and summary.json into their folders."""
    from bench.commands.report import leaderboard
    from bench.rows.adding import row_folders
    from bench.rows.scoring import Scoring
    from bench.rows.scoring import score as score_row

    how = Scoring(names(tasks), names(potential) or (), work, workers, samples)
    for folder in row_folders(rows, FOLDER, samples):
        score_row(folder, how)
        show(leaderboard([folder]))
        say(f"{folder}: scored; `python -m bench leaderboard {folder} RUN` shows it beside others")


@app.command()
def check(rows: Rows = None, samples: Samples = None, workers: Workers = 2) -> None:
    """Hold rows to their cards: fields, checksum, protocol, and the figures of the quick tasks, computed anew.

    Exit code 1 where a row fails.
    """
    from bench.rows.adding import row_folders
    from bench.rows.samples import SamplesNotHere
    from bench.rows.scoring import faults

    failed = False
    for folder in row_folders(rows, FOLDER, samples):
        found: list[str] = []
        absent = ""
        try:
            found += faults(folder, samples, workers)
        except SamplesNotHere as error:
            absent = str(error)
        except ValueError as error:  # one row that cannot be scored at all, and the others are checked
            found.append(str(error))
        failed = failed or bool(found)
        for fault in found:
            show(f"FAILED {folder}: {fault}")
        if not found:
            show(f"{folder}: sound{f', but not scored anew: {absent}' if absent else ''}")
    if failed:
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a card."""
    import json

    from bench.rows.card import schema as card_schema

    show(json.dumps(card_schema(), indent=1))
