"""The table of `bench csp`: a row for each model and number of samples k."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bench.atomic import write_text
from bench.statistics import Metric
from bench.store import report_folder
from reports.run_results import ModelResult, read_results
from reports.structure_prediction.printed import PRINTED_ROWS, SOURCE, PrintedRow
from reports.tables.columns import percent, three_digits
from reports.tables.csv_rows import to_csv
from reports.tables.footnotes import disturbed_note
from reports.tables.formats import (
    DASH,
    SUFFIXES,
    Cell,
    Footnotes,
    Format,
    Header,
    Table,
    to_latex,
    to_markdown,
    to_text,
)

TITLE = "Crystal structure prediction: structures for the compositions of a test split"
STEM = "structure_prediction"
RATE = re.compile(r"match_rate_(\d+)")
RULE = (
    "A composition is matched where one of its first k samples is: prediction and reference valid, and the same "
    "structure by pymatgen's StructureMatcher (stol 0.5, angle_tol 10, ltol 0.3). RMSD: of the best sample, over "
    "(V/N)^(1/3), mean of the matched compositions. A sample that is missing is no match."
)
METRE = "METRe: references that any valid prediction of their formula matches. cRMSE: unmatched ones count 0.5."


def four_decimals(value: float, n: int) -> str:
    """An RMSD as papers print it."""
    return f"{value:.4f}"


@dataclass(frozen=True)
class Figure:
    """One column. metric: its name; `{k}` where there is one for each k, else it is shown at the largest k alone."""

    metric: str
    group: str
    title: str
    arrow: str
    show: Callable[[float, int], str]


FIGURES = (
    Figure("match_rate_{k}", "Matched", "rate (%)", "↑", percent),
    Figure("match_rmsd_{k}", "Matched", "RMSD", "↓", four_decimals),
    Figure("match_rate_all", "All k", "valid or not (%)", "", percent),
    Figure("metre", "All k", "METRe (%)", "↑", percent),
    Figure("match_crmse", "All k", "cRMSE", "↓", four_decimals),
    Figure("seconds_per_composition_{k}", "Device seconds", "/ composition", "↓", three_digits),
    Figure("seconds_per_match_{k}", "Device seconds", "/ match", "↓", three_digits),
)


def render(run_dirs: Sequence[Path], format: Format = "text", paper: bool = False) -> str:
    """The table over the models of some runs; with `paper`, the rows that papers printed for their data sets as well.

    ValueError where a folder holds no finished run of `bench csp`, or runs have different protocols.
    """
    if format not in SUFFIXES:
        raise ValueError(f"--format {format!r}: known are {', '.join(SUFFIXES)}")
    results = read_results(run_dirs)
    if format == "csv":
        return to_csv(results, [], ["match_rate", "match_rmsd"])
    table = compose(results, paper)
    return to_text(table, TITLE) if format == "text" else {"markdown": to_markdown, "latex": to_latex}[format](table)


def write_reports(run_dirs: Sequence[Path]) -> str:
    """Writes each run's own report/structure_prediction.txt, .md, .csv and .tex; gives the text over all of them."""
    text = render(run_dirs)
    for folder in run_dirs:
        report = report_folder(Path(folder))
        for format, suffix in SUFFIXES.items():
            write_text(report / f"{STEM}.{suffix}", render([folder], format))
    return text


def compose(results: Sequence[ModelResult], paper: bool = False) -> Table:
    """For each data set a row for each model and k, then what was printed."""
    notes = Footnotes()
    headers = [Header("", title, title) for title in ("Dataset", "Method", "k")]
    headers += [Header(figure.group, figure.title, figure.title, figure.arrow) for figure in FIGURES]
    sections: list[list[list[Cell]]] = []
    for dataset, members in groupby(results, key=lambda result: result.run.dataset):
        own = list(members)
        rows = [row for result in own for row in _rows(result, notes)]
        printed = [_printed(row) for row in PRINTED_ROWS if paper and row.dataset == dataset]
        if rows or printed:
            (rows or printed)[0][0] = Cell(own[0].dataset)
        sections += [section for section in (rows, printed) if section]
    return Table(headers, sections, notes.lines, remarks(results, paper))


def samples_of(result: ModelResult) -> list[int]:
    """The k of which a model has figures, ascending."""
    return sorted(int(found[1]) for name in result.metrics if (found := RATE.fullmatch(name)))


def _rows(result: ModelResult, notes: Footnotes) -> list[list[Cell]]:
    known = samples_of(result)
    rows = []
    for k in known or [0]:
        label = result.method if k == (known or [0])[0] else ""
        cells = [Cell(""), Cell(label), Cell(str(k) if k else DASH)]
        for figure in FIGURES:
            by_k = "{k}" in figure.metric
            metric = result.known(figure.metric.format(k=k)) if by_k or k == (known or [0])[-1] else None
            cells.append(_cell(figure, metric, result, notes))
        rows.append(cells)
    return rows


def _cell(figure: Figure, metric: Metric | None, result: ModelResult, notes: Footnotes) -> Cell:
    if metric is None:
        return Cell(DASH)
    number = notes.number(disturbed_note(result) if "seconds" in figure.metric else "")
    if metric.value is None:
        return Cell(f"> {figure.show(metric.low or 0.0, metric.n)}", note=number)
    interval = None
    if metric.low is not None and metric.high is not None:
        interval = figure.show(metric.low, metric.n), figure.show(metric.high, metric.n)
    return Cell(figure.show(metric.value, metric.n), interval, note=number)


def _printed(row: PrintedRow) -> list[Cell]:
    shown = ("", f"{row.method} (paper)", str(row.samples), row.match_rate, row.rmsd)
    return [*map(Cell, shown), *[Cell(DASH)] * (len(FIGURES) - 2)]


def remarks(results: Sequence[ModelResult], paper: bool = False) -> list[str]:
    """What the figures mean, which compositions they are of, and how high a match rate can come there."""
    lines = [RULE, METRE]
    for root, members in groupby(results, key=lambda result: result.run.root):
        first = next(iter(members))
        asked = first.run.manifest["protocol"]["tasks"][STEM]["compositions"]
        which = {"all": "all", "first": "the first", "drawn": "drawn by the seed:"}[asked["chosen"]]
        ceiling = first.known("match_ceiling")
        most = "all" if ceiling is None else f"{percent(ceiling.value or 0.0, ceiling.n)} %"
        lines.append(
            f"{first.dataset}, run {root.name}: {which} {asked['compositions']} of {asked['of']} compositions, seed "
            f"{first.run.manifest['seed']}. {most} of their references are valid, and no more can be matched."
        )
    if paper:
        lines.append(f"(paper): as printed in {SOURCE}, of all compositions of the test split.")
    return lines
