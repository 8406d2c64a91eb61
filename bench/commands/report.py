"""Tables and figures of finished runs: written into their folders, and the text to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bench import registry
from bench.errors import one_line, with_path
from bench.prediction.tasks import PREDICTION
from bench.progress import say
from bench.store import Run

Command = Literal["run", "csp", "learn"]
REPORTS: Mapping[Command, registry.Kind] = {"run": "report", "csp": "prediction_report", "learn": "learning_report"}
TABLES: Mapping[Command, str] = {"run": "table1", "csp": "structure_prediction", "learn": "learning"}


def write_reports(folders: Sequence[Path]) -> dict[str, str]:
    """Writes every report that exists into report/ of each run; gives the text of those that have one, by name.

    OSError names the folder where it cannot be written.
    """
    kind = REPORTS[command_of(folders)]
    try:
        texts = {name: registry.plugin(kind, name)(folders) for name in registry.known(kind)}
    except OSError as error:
        raise error if error.filename else with_path(error, folders[0] / "report") from error
    return {name: text for name, text in texts.items() if text}


def _command(folder: Path) -> Command:
    try:
        run = Run.open(folder)
    except ValueError:  # no run: whoever reads it for the report says so
        return "run"
    if PREDICTION in run.tasks:
        return "csp"
    return "learn" if "learning" in run.manifest else "run"


def command_of(folders: Sequence[Path]) -> Command:
    """The command whose runs these are: each has figures of its own. ValueError where they are of several."""
    commands = {folder: _command(folder) for folder in folders}
    if len(set(commands.values())) > 1:
        which, command = next((folder, command) for folder, command in commands.items() if command != "run")
        raise ValueError(f"{which} is a run of `bench {command}`, and others are not; report them apart")
    return next(iter(commands.values()), "run")


def leaderboard(folders: Sequence[Path], by: str | None = None) -> str:
    """The models of these runs in order, by a metric or the best that they have."""
    return str(registry.plugin("table", "leaderboard")(folders, by))


def write_page(
    folders: Sequence[Path], file: Path, paper: bool = False, leaderboard: bool = False, by: str | None = None
) -> str:
    """Writes one HTML file of these runs; gives a line that names it. leaderboard: with their models in order.

    ValueError where they are runs of `bench csp` or `bench learn`, of which there is none.
    """
    if (command := command_of(folders)) != "run":
        raise ValueError(
            f"--html: a run of `bench {command}` has no page; {folders[0]}/report has its tables and figure"
        )
    return str(registry.plugin("page", "html")(folders, file, paper, leaderboard, by))


def costs(folders: Sequence[Path], format: str) -> str:
    """What the models of these runs took: time, evaluations, memory, energy."""
    return str(registry.plugin("table", "costs")(folders, format))


def by_size(folders: Sequence[Path], format: str) -> str:
    """Rates of the models of these runs by the number of atoms in a cell."""
    return str(registry.plugin("table", "by_size")(folders, format))


def disagreements(folders: Sequence[Path], format: str) -> str:
    """Where the potentials of these runs disagree, by chemistry."""
    return str(registry.plugin("table", "disagreements")(folders, format))


def report(
    folders: Sequence[Path],
    format: str,
    paper: bool = False,
    at: Sequence[float] = (),
    columns: Sequence[str] | None = None,
) -> str:
    """What `bench report` shows: Table 1, and as text what else was written; with `at`, what was there by then instead.

    paper: the printed rows beside ours. at: device seconds. columns: metrics to show instead, in one table and nothing
    else; nothing is written then. A run folder that cannot be written is said, no more.
    """
    if columns is not None:
        return str(registry.plugin("table", "table1")(folders, format, paper, columns))
    command = command_of(folders)
    main = TABLES[command]
    if at and command != "run":
        where = {"csp": "match_curve.csv", "learn": "learning.csv"}[command]
        raise ValueError(f"--at shows stable crystals; of a run of `bench {command}`, report/{where} has the seconds")
    if at:
        return str(registry.plugin("table", "yield")(folders, at, format))
    table = str(registry.plugin("table", main)(folders, format, paper))
    try:
        texts = write_reports(folders)
    except OSError as error:
        say(f"tables and figures were not written: {one_line(error, limit=None)}")
        return table
    others = [text for name, text in texts.items() if name != main]
    return "\n\n".join([table.rstrip("\n"), *others]) if format == "text" else table
