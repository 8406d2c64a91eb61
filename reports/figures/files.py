"""Figures as files: the same figure gives the same bytes, whatever the user's own settings of matplotlib are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

FONT_SIZE = 8.0
STYLE = {
    "font.size": FONT_SIZE,
    "font.family": "DejaVu Sans",
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "crysldm-bench",  # names of clipping paths, else drawn at random
}
SUFFIXES = ("png", "pdf", "svg")
# No dates and versions in the files.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
# Okabe and Ito's colours, which colour-blind readers tell apart; line styles and markers for print in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def line_of(place: int) -> tuple[str, Any, str]:
    """Colour, line style and marker of the n-th model; 49 differ."""
    around = place + place // len(COLOURS)
    return COLOURS[place % len(COLOURS)], STYLES[around % len(STYLES)], MARKERS[around % len(MARKERS)]


def plain_numbers(axis: Axis, low: float, high: float) -> None:
    """Plain numbers at a logarithmic axis from `low` to `high`, at 1, 2 and 5 where that is not too many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, panels: Iterable[Axes], most: int | None = None) -> None:
    """One legend of all panels below them, each label once; none where nothing is labelled. most: labels in a row."""
    handles = {label: handle for p in panels for handle, label in zip(*p.get_legend_handles_labels(), strict=True)}
    if handles:
        columns = len(handles) if most is None else min(len(handles), most)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)


def save_figure(draw: Callable[[], Figure], stem: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Draws a figure and writes STEM.png, .pdf and .svg."""
    from matplotlib import style

    with style.context(["default", STYLE]):
        figure = draw()
        for suffix in suffixes:
            figure.savefig(stem.with_suffix(f".{suffix}"), dpi=200, metadata=METADATA[suffix])
