"""Tables of a page: captions, headers with their scope, and a plain number or word by which each cell is sorted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from reports.tables.formats import Cell, Table
from reports.tables.ranking import Mark

NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
ROW_HEADER = "Method"
COUNTS = ("Steps", "Rank", "Crystals")  # columns of figures that are in no group
INTERVAL = re.compile(r"([^\[\]]*) \[([^\[\],]*), ([^\[\],]*)\](.*)")
MARKS: dict[Mark, tuple[str, str]] = {
    "best": ("★", "best of its data set, beyond noise"),
    "tied": ("≈", "best, or noise cannot tell it from the best"),
}


@dataclass(frozen=True)
class Td:
    """One cell. interval: shown under its figure. mark: of Table 1. note: number of a footnote. header: of its row.

    href: where its text leads.
    """

    text: str
    interval: str = ""
    mark: Mark = ""
    note: int | None = None
    header: bool = False
    href: str = ""

    @property
    def sort(self) -> str:
        """The first number in the text, or "" where there is none: what the page sorts by, words where none has one."""
        found = NUMBER.search(self.text)
        return found[0].replace(",", "").replace("−", "-") if found else ""

    @property
    def sign(self) -> str:
        """The mark as a sign."""
        return MARKS[self.mark][0] if self.mark else ""

    @property
    def meaning(self) -> str:
        """The mark in words."""
        return MARKS[self.mark][1] if self.mark else ""


@dataclass(frozen=True)
class Th:
    """A column's title. numeric: figures, aligned and sorted as such. note: number of a footnote."""

    text: str
    numeric: bool = True
    note: int | None = None
    arrow: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """name: unique within the page. groups: titles above columns, and how many each spans. bodies: rows between rules.

    notes: footnotes by number. filtered: whether rows can be filtered. legend: what the marks mean.
    """

    name: str
    caption: str
    headers: Sequence[Th]
    bodies: Sequence[Sequence[Sequence[Td]]]
    groups: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    filtered: bool = False
    legend: Sequence[str] = field(default=())

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(map(len, self.bodies))


def simple_table(
    name: str,
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: int = 1,
    filtered: bool = False,
) -> HtmlTable:
    """A table of texts. words: so many columns at the left hold words, the first is the header of its row.

    An interval in brackets behind a figure goes below it.
    """
    body = [
        [_figure(text) if place >= words else Td(text, header=place == 0) for place, text in enumerate(row)]
        for row in rows
    ]
    titles = [Th(title, numeric=place >= words) for place, title in enumerate(headers)]
    return HtmlTable(name, caption, titles, [body], filtered=filtered)


def from_table1(table: Table, name: str, caption: str) -> HtmlTable:
    """Table 1 with its data set in every row, so that rows can be sorted; left out where all have the same."""
    datasets = [row[0].value for section in table.sections for row in section if row[0].value]
    first = 0 if len(set(datasets)) > 1 else 1
    bodies, dataset = [], ""
    for section in table.sections:
        rows = []
        for row in section:
            dataset = row[0].value or dataset
            cells = zip(table.headers, [Cell(dataset), *row[1:]], strict=True)
            rows.append([_td(cell, header.title == ROW_HEADER) for header, cell in cells][first:])
        bodies.append(rows)
    headers = [Th(h.title, bool(h.group) or h.title in COUNTS, h.note, h.arrow) for h in table.headers][first:]
    groups = [(group, len(list(members))) for group, members in groupby(h.group for h in table.headers[first:])]
    marks = dict.fromkeys(cell.mark for section in table.sections for row in section for cell in row if cell.mark)
    legend = [f"{MARKS[mark][0]} {MARKS[mark][1]}" for mark in sorted(marks)]
    if legend:
        legend[-1] += " (pairs compared at 5 %, Holm-corrected)"
    return HtmlTable(name, caption, headers, bodies, groups, table.notes, table.remarks, legend=legend)


def _figure(text: str) -> Td:
    found = INTERVAL.fullmatch(text)
    return Td(found[1] + found[4], f"{found[2]} – {found[3]}") if found else Td(text)


def _td(cell: Cell, header: bool) -> Td:
    interval = f"{cell.interval[0]} – {cell.interval[1]}" if cell.interval else ""
    return Td(cell.value, interval, cell.mark, cell.note, header)
