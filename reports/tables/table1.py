"""Table 1 in the paper's layout, with intervals, ties, and the costs that the paper does not print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from bench.atomic import write_text
from bench.store import report_folder
from reports.run_results import ModelResult, one_device, read_results
from reports.tables.chosen_columns import chosen_columns
from reports.tables.columns import Column, count, shown_columns
from reports.tables.csv_rows import to_csv
from reports.tables.footnotes import column_note, dash_note, disturbed_note, remarks
from reports.tables.formats import (
    DASH,
    SUFFIXES,
    TITLE,
    Cell,
    Footnotes,
    Format,
    Header,
    Table,
    to_latex,
    to_markdown,
    to_text,
    without_first_column,
)
from reports.tables.paper_rows import PRINTED_ROWS, PrintedRow
from reports.tables.ranking import Mark, rank
from reports.tables.split_row import TEST_SPLIT, split_metrics

LABELS = ("Dataset", "Method", "Steps")
MOST_COLUMNS = 10  # of the default table on a terminal, these among them
LEFT_OUT_FIRST = ("steps_per_stable", "network_evaluations")  # where it would have more
LEFT_OUT_BESIDE_PAPER = ("network_evaluations", "seconds_per_crystal")  # which the paper does not print


def render(
    run_dirs: Sequence[Path], format: Format = "text", paper: bool = False, columns: Sequence[str] | None = None
) -> str:
    """Table 1 over the models of some runs; with `paper`, the rows printed for their data sets as well.

    columns: metrics to show instead, any that the runs have. As text, without them, at most MOST_COLUMNS columns.
    ValueError where a folder holds no finished run, runs have different protocols, or a format or metric is unknown.
    """
    if format not in SUFFIXES:
        raise ValueError(f"--format {format!r}: known are {', '.join(SUFFIXES)}")
    results = read_results(run_dirs)
    datasets = {result.run.dataset for result in results}
    printed = [row for row in PRINTED_ROWS if row.dataset in datasets] if paper else []
    chosen = None if columns is None else chosen_columns(columns, results)
    if format == "csv":
        if chosen is not None:
            return to_csv(results, printed, [column.metric for column in chosen], only=True)
        return to_csv(results, printed, [column.metric for column in shown_columns(results)])
    if format == "text":
        return _text(results, printed, chosen)
    write = {"markdown": to_markdown, "latex": to_latex}[format]
    return write(compose(results, printed, chosen))


def _text(results: Sequence[ModelResult], printed: Sequence[PrintedRow], chosen: Sequence[Column] | None) -> str:
    """The table for a terminal, its only data set in the title. A default table has no more columns than it may have.

    What is left out is said below it.
    """
    datasets = {result.dataset for result in results}
    labels = LABELS[1:] if len(datasets) == 1 else LABELS
    columns, left_out = shown_columns(results) if chosen is None else list(chosen), []
    for metric in LEFT_OUT_BESIDE_PAPER if printed else LEFT_OUT_FIRST:
        if chosen is None and len(labels) + len(columns) > MOST_COLUMNS:
            left_out += [column.metric for column in columns if column.metric == metric]
            columns = [column for column in columns if column.metric != metric]
    table = compose(results, printed, columns)
    if left_out:
        which = f"Left out: {', '.join(left_out)}; `bench report RUN --columns` shows any metric."
        table = replace(table, remarks=[*table.remarks, which])
    if len(datasets) > 1:
        return to_text(table)
    return to_text(without_first_column(table), f"{TITLE} ({', '.join(datasets)})")


def write_reports(run_dirs: Sequence[Path], paper: bool = False) -> str:
    """Writes each run's own report/table1.txt, .md, .csv and .tex; gives the text table over all of them."""
    text = render(run_dirs, "text", paper)
    for folder in run_dirs:
        report = report_folder(Path(folder))
        for format, suffix in SUFFIXES.items():
            content = render([folder], format, paper)
            write_text(report / f"table1.{suffix}", content)
    return text


def compose(
    results: Sequence[ModelResult], printed: Sequence[PrintedRow] = (), chosen: Sequence[Column] | None = None
) -> Table:
    """The table of these results: for each data set its models, its controls, its test split and its printed rows.

    The data set is named in its first row. chosen: its columns of figures, by default all of Table 1.
    """
    notes, columns = Footnotes(), shown_columns(results) if chosen is None else chosen
    headers = [Header("", title, title) for title in LABELS]
    for column in columns:
        note = notes.number(column_note(column.metric, results))
        headers.append(Header(column.group, column.title, column.short, column.arrow, note))
    sections: list[list[list[Cell]]] = []
    has_split = False
    for dataset, members in groupby(results, key=lambda result: result.run.dataset):
        rows = list(members)
        models = [result for result in rows if result.is_compared]
        marks = [_marks(column, models) for column in columns]
        sections.append(
            [_row(model, columns, [column[i] for column in marks], notes) for i, model in enumerate(models)]
        )
        apart = [result for result in rows if not result.is_compared]
        sections.append([_row(result, columns, [""] * len(columns), notes) for result in apart])
        split_row = _test_split_rows(rows, columns)
        has_split = has_split or bool(split_row)
        sections.append(split_row)
        sections.append([_printed_row(row, columns) for row in printed if row.dataset == dataset])
        first = next(section for section in sections[-4:] if section)[0]
        first[0] = Cell(rows[0].dataset)
    lines = [line for line in remarks(results, printed) if has_split or not line.startswith(f"{TEST_SPLIT}:")]
    return Table(headers, [section for section in sections if section], notes.lines, lines)


def _marks(column: Column, models: Sequence[ModelResult]) -> list[Mark]:
    """Marks of one data set's models. Seconds are compared only where all were measured on the same device."""
    if column.ranking is None:
        return [""] * len(models)
    if column.metric == "seconds_per_crystal" and not one_device(models):
        return [""] * len(models)
    figures = [
        None if column.is_time and model.was_disturbed else column.comparable(model.known(column.metric))
        for model in models
    ]
    return rank(figures, column.ranking)


def _row(result: ModelResult, columns: Sequence[Column], marks: Sequence[Mark], notes: Footnotes) -> list[Cell]:
    steps = result.known("steps")
    cells = [Cell(""), Cell(result.method), Cell(count(steps.value or 0, 0) if steps else DASH)]
    for column, mark in zip(columns, marks, strict=True):
        metric = result.known(column.metric)
        if metric is None:
            cells.append(Cell(DASH, note=notes.number(dash_note(column.metric, column.task, result))))
        elif column.is_time and (note := disturbed_note(result)):
            cells.append(replace(column.cell(metric, mark), note=notes.number(note)))
        else:
            cells.append(column.cell(metric, mark))
    return cells


def _test_split_rows(results: Sequence[ModelResult], columns: Sequence[Column]) -> list[list[Cell]]:
    """The row of the data set's own test split, if it was scored under the protocol of these runs."""
    figures = split_metrics(results, columns)
    cells = [column.cell(figures[column.metric]) if column.metric in figures else Cell(DASH) for column in columns]
    return [[Cell(""), Cell(TEST_SPLIT), Cell(DASH), *cells]] if figures else []


def _printed_row(printed: PrintedRow, columns: Sequence[Column]) -> list[Cell]:
    computed = {"stable_rate": printed.stable_rate_metric, "steps_per_stable": printed.steps_per_stable_metric}
    cells = [Cell(""), Cell(f"{printed.method} (paper)"), Cell(printed.steps)]
    for column in columns:
        interval = column.cell(computed[column.metric]).interval if column.metric in computed else None
        cells.append(Cell(getattr(printed, column.metric, DASH), interval))
    return cells
