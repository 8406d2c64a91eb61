"""A table with intervals, ties and footnotes, written as text, Markdown or LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import Literal

from reports.tables.ranking import Mark

Format = Literal["text", "markdown", "csv", "latex"]
# Of the files that a report writes, and of the grids that tabulate draws.
SUFFIXES: Mapping[Format, str] = MappingProxyType({"text": "txt", "markdown": "md", "csv": "csv", "latex": "tex"})
GRIDS: Mapping[Format, str] = MappingProxyType({"text": "simple", "markdown": "github", "latex": "latex_booktabs"})
TITLE = "Table 1. Ab initio generation of crystals: what comes out, and what it costs"
TEXT_WIDTH = 132
DASH = "–"


@dataclass(frozen=True)
class Header:
    """A column's title under its group's. short: for a terminal. arrow: "↑", "↓" or none. note: of a footnote."""

    group: str
    title: str
    short: str
    arrow: str = ""
    note: int | None = None


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, both as they are to be shown. note: number of a footnote."""

    value: str
    interval: tuple[str, str] | None = None
    mark: Mark = ""
    note: int | None = None


@dataclass(frozen=True)
class Table:
    """sections: rows between rules, all as long as `headers`. notes: footnotes by number. remarks: lines without."""

    headers: Sequence[Header]
    sections: Sequence[Sequence[Sequence[Cell]]]
    notes: Sequence[str]
    remarks: Sequence[str]


@dataclass
class Footnotes:
    """Footnotes in the order in which they are first needed."""

    lines: list[str] = field(default_factory=list)

    def number(self, note: str) -> int | None:
        """The number of a note, from 1; None for no text."""
        if note and note not in self.lines:
            self.lines.append(note)
        return self.lines.index(note) + 1 if note else None


def grid(
    headers: Sequence[str],
    rows: Iterable[Iterable[object]],
    format: Format = "text",
    widths: Sequence[int] | None = None,
) -> str:
    """Rows of texts under their headers. format: any but "csv". widths: letters of the columns, which then wrap."""
    from tabulate import tabulate

    style = GRIDS[format]
    return tabulate(rows, headers, style, disable_numparse=True, maxcolwidths=widths, maxheadercolwidths=widths)


def without_first_column(table: Table) -> Table:
    """The table without its data set, say, where there is only one."""
    sections = [[row[1:] for row in section] for section in table.sections]
    return Table(table.headers[1:], sections, table.notes, table.remarks)


def to_text(table: Table, title: str = TITLE) -> str:
    """For a terminal: the interval stands under its figure, footnotes under the table."""
    from tabulate import SEPARATING_LINE, tabulate

    # As a row: tabulate pads headers by two columns each, and the table has to fit a terminal.
    titles = [f"{h.group}\n{_text_title(h)}" for h in table.headers]
    lines: list[list[str] | str] = [titles]
    for section in table.sections:
        lines += [SEPARATING_LINE, *([_text_cell(cell) for cell in row] for row in section)]
    align = ["left" if is_label(h) else "center" for h in table.headers]
    grid = tabulate(lines, tablefmt="simple", disable_numparse=True, colalign=align)
    legend = ["Under each figure: its 95 % interval.", *_legend(table, "*")]
    notes = [f"{_superscript(number)} {note}" for number, note in enumerate(table.notes, 1)]
    wrapped = [textwrap.fill(n, TEXT_WIDTH, subsequent_indent="  ") for n in [" ".join(legend), *table.remarks, *notes]]
    return "\n".join([title, "", *(line.rstrip() for line in grid.splitlines()), "", *wrapped]) + "\n"


def to_markdown(table: Table) -> str:
    """A pipe table for GitHub and most renderers; bold is the best of its column."""
    titles = [_escape_markdown(" ".join(filter(None, [h.group, h.title, h.arrow]))) for h in table.headers]
    titles = [title + _html_note(h.note) for title, h in zip(titles, table.headers, strict=True)]
    rules = [":---" if is_label(h) else ":---:" for h in table.headers]
    rows = [[_markdown_cell(cell) for cell in row] for section in table.sections for row in section]
    grid = ["| " + " | ".join(cells) + " |" for cells in [titles, rules, *rows]]
    legend = ["In brackets: 95 % intervals.", *_legend(table, "bold:")]
    remarks = [_escape_markdown(remark) + "\n" for remark in [" ".join(legend), *table.remarks]]
    notes = [f"{number}. {_escape_markdown(note)}" for number, note in enumerate(table.notes, 1)]
    return "\n".join([*grid, "", *remarks, *notes]) + "\n"


def to_latex(table: Table) -> str:
    """A tabular for the booktabs package, with its notes below; bold is the best of its column."""
    columns = "".join("l" if is_label(h) else "c" for h in table.headers)
    groups, rules = [], []
    for group, first, last in _spans(table.headers):
        groups.append(rf"\multicolumn{{{last - first + 1}}}{{c}}{{{_escape_latex(group)}}}" if group else "")
        if group:
            rules.append(rf"\cmidrule(lr){{{first + 1}-{last + 1}}}")
        else:
            groups += [""] * (last - first)
    titles = [_escape_latex(" ".join(filter(None, [h.title, h.arrow]))) + _latex_note(h.note) for h in table.headers]
    body = [
        "\n".join(" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in section)
        for section in table.sections
    ]
    legend = ["In brackets: 95 % intervals.", *_legend(table, "bold:")]
    notes = [_escape_latex(remark) for remark in [" ".join(legend), *table.remarks]]
    notes += [f"{_latex_note(number)} {_escape_latex(note)}" for number, note in enumerate(table.notes, 1)]
    return (
        "\n".join(
            [
                "% needs \\usepackage{booktabs}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(groups) + r" \\",
                "".join(rules),
                " & ".join(titles) + r" \\",
                r"\midrule",
                "\n\\midrule\n".join(body),
                r"\bottomrule",
                r"\end{tabular}",
                "",
                r"{\footnotesize\raggedright",
                "\n\n".join(notes),
                r"\par}",
            ]
        )
        + "\n"
    )


def is_label(header: Header) -> bool:
    """Whether a column holds words rather than figures."""
    return not header.group


def _legend(table: Table, best: str) -> list[str]:
    """What the marks mean, if there are any."""
    if not any(cell.mark for section in table.sections for row in section for cell in row):
        return []
    ties = "≈ best, or noise cannot tell it from the best (pairs compared at 5 %, Holm-corrected)"
    return [f"{best} best of its data set, beyond noise; {ties}."]


def _spans(headers: Sequence[Header]) -> Iterator[tuple[str, int, int]]:
    """Neighbouring columns of one group: its name, first and last column."""
    for group, members in groupby(enumerate(headers), key=lambda item: item[1].group):
        places = [place for place, _ in members]
        yield group, places[0], places[-1]


def _text_title(header: Header) -> str:
    return " ".join(filter(None, [header.short, header.arrow])) + _superscript(header.note)


def _text_cell(cell: Cell) -> str:
    value = cell.value + {"best": " *", "tied": " ≈", "": ""}[cell.mark] + _superscript(cell.note)
    return f"{value}\n{cell.interval[0]}–{cell.interval[1]}" if cell.interval else value


def _markdown_cell(cell: Cell) -> str:
    value = _escape_markdown(cell.value)
    value = {"best": f"**{value}**", "tied": f"{value} ≈", "": value}[cell.mark] + _html_note(cell.note)
    return value + _escape_markdown(f" [{', '.join(cell.interval)}]" if cell.interval else "")


def _latex_cell(cell: Cell) -> str:
    value = _escape_latex(cell.value)
    value = {"best": rf"\textbf{{{value}}}", "tied": rf"{value} $\approx$", "": value}[cell.mark]
    value += _latex_note(cell.note)
    return value + (rf" {{\scriptsize [{_escape_latex(', '.join(cell.interval))}]}}" if cell.interval else "")


def _superscript(note: int | None) -> str:
    return str(note).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")) if note else ""


def _html_note(note: int | None) -> str:
    return f"<sup>{note}</sup>" if note else ""


def _latex_note(note: int | None) -> str:
    return rf"\textsuperscript{{{note}}}" if note else ""


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<\[])", r"\\\1", text)


LATEX_SIGNS = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≈": r"$\approx$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "³": "$^3$",
    "–": r"\textendash{}",
    "Å": r"\AA{}",
    "\u00a0": "~",
}


def _escape_latex(text: str) -> str:
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text).replace("--", "-{}-")  # -- is a dash, not an option
