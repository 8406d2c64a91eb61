"""Figures as files: the same figure gives the same bytes, whatever the user's own settings of matplotlib are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
# Okabe and Ito's colours, which colour-blind readers tell apart, with a line style for print in black and white.
LINES = tuple(
    zip(
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
        ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1))),
        ("o", "s", "^", "D", "v", "P", "X"),
        strict=True,
    )
)


def save_figure(draw: Callable[[], Figure], stem: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Draws a figure and writes STEM.png, .pdf and .svg."""
    from matplotlib import style

    with style.context(["default", STYLE]):
        figure = draw()
        for suffix in suffixes:
            figure.savefig(stem.with_suffix(f".{suffix}"), dpi=200, metadata=METADATA[suffix])
