"""Which figures of a column are the best, and which of them noise cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bench.statistics import SIGNIFICANCE, Metric, pairwise_p_values

Mark = Literal["best", "tied", ""]


def rank(column: Sequence[Metric | None], better: Literal["high", "low"]) -> list[Mark]:
    """Marks of a column: "best" for a figure that beats every other beyond noise, else "tied" for it and its equals.

    Figures without a value or an interval take no part; with fewer than two others nothing is marked. Pairs are
    compared by `pairwise_p_values`.
    """
    marks: list[Mark] = [""] * len(column)
    figures = {row: m for row, m in enumerate(column) if m is not None and m.has_interval}
    if len(figures) < 2:
        return marks
    different = {pair for pair, p in pairwise_p_values(figures).items() if p < SIGNIFICANCE}
    sign = 1 if better == "high" else -1
    best = max(figures, key=lambda row: sign * (figures[row].value or 0.0))
    equals = [row for row in figures if not {(row, best), (best, row)} & different]
    for row in equals:
        marks[row] = "tied" if len(equals) > 1 else "best"
    return marks
