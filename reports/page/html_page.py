"""One HTML file that shows everything of one or more runs: no network, no other file, readable without a mouse.

Every text from a run is escaped; the only script that runs is the package's own, by its hash in the page's policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from reports.page.html_table import HtmlTable, from_table1
from reports.page.records import record_tables
from reports.page.sections import dataset_part
from reports.page.templating import render_template
from reports.run_results import ModelResult, read_results, task_protocols
from reports.tables import leaderboard as board
from reports.tables import table1
from reports.tables.chosen_columns import further_columns
from reports.tables.formats import TITLE
from reports.tables.paper_rows import PRINTED_ROWS

RANKS_CAPTION = "Good crystals, and what they cost"
TABLE1_CAPTION = TITLE.removeprefix("Table 1. ")
MOST_BYTES = 5 * 10**6


def write_page(
    run_dirs: Sequence[Path], file: Path, paper: bool = False, leaderboard: bool = False, by: str | None = None
) -> str:
    """Writes the page of these runs and gives a line that names it. paper: the printed rows; by: as the leaderboard's.

    ValueError where a folder holds no finished run or protocols differ; OSError where the file cannot be written.
    """
    content = render(run_dirs, paper, leaderboard, by).encode()
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    size = f"{len(content) / 1e6:.2f} MB"
    if len(content) > MOST_BYTES:
        size += f", more than the {MOST_BYTES / 1e6:g} MB that are easily sent: name fewer runs"
    return f"HTML: {file} ({size})"


def render(
    run_dirs: Sequence[Path], paper: bool = False, leaderboard: bool = False, by: str | None = None, home: str = ""
) -> str:
    """The page as text; the same runs give the same text. home: address of a list of runs. Errors as `write_page`."""
    results = read_results(run_dirs)
    if not results:
        raise ValueError(f"{run_dirs[0]}: none of its models has a result, so there is nothing to show")
    ranks = from_table1(board.compose(results, by), "ranks", RANKS_CAPTION) if leaderboard else None
    datasets = {result.run.dataset for result in results}
    printed = [row for row in PRINTED_ROWS if row.dataset in datasets] if paper else []
    parts = [dataset_part(list(members)) for _, members in groupby(results, key=lambda result: result.run.dataset)]
    runs = list(dict.fromkeys(result.run.name for result in results))
    return render_template(
        "page.html.j2",
        f"Generative models of crystals on {_join([part.title for part in parts])}",
        _subtitle(results, runs),
        home,
        runs=_join(runs),
        leaderboard=ranks,
        table1=from_table1(table1.compose(results, printed), "table1-figures", TABLE1_CAPTION),
        further=further_tables(results),
        dataset_parts=parts,
        records=record_tables(results),
    )


def further_tables(results: Sequence[ModelResult]) -> list[HtmlTable]:
    """A table for each group of metrics that Table 1 has not, to be unfolded."""
    return [
        from_table1(replace(table1.compose(results, (), columns), remarks=()), f"further{place}", group)
        for place, (group, columns) in enumerate(further_columns(results).items())
    ]


def _subtitle(results: Sequence[ModelResult], runs: Sequence[str]) -> list[str]:
    """Runs, models, crystals and potential, in a line each."""
    crystals = sum(result.requested for result in results)
    few = f"{len(results)} model{'s' * (len(results) > 1)}, {crystals:,} crystals asked for"
    lines = [f"Run{'s' * (len(runs) > 1)} {_join(runs)}: {few}."]
    stability = task_protocols(results).get("stability", {})
    potential = stability.get("potential", {}).get("name")
    if potential:
        lines.append(
            f"Stability by {potential}; every figure has a 95 % interval, and what noise cannot tell apart is tied."
        )
    return lines


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
