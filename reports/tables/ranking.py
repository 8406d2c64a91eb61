"""Which figures of a column are the best, and which of them noise cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from bench.statistics import SIGNIFICANCE, Metric, difference_p_value, holm

Mark = Literal["best", "tied", ""]


def rank(column: Sequence[Metric | None], better: Literal["high", "low"]) -> list[Mark]:
    """Marks of a column: "best" for a figure that beats every other beyond noise, else "tied" for it and its equals.

    Figures without a value or an interval take no part; with fewer than two others nothing is marked. Pairs are
    compared by `difference_p_value`, corrected over all pairs of the column after Holm.
    """
    marks: list[Mark] = [""] * len(column)
    figures = {row: m for row, m in enumerate(column) if m is not None and None not in (m.value, m.low, m.high)}
    if len(figures) < 2:
        return marks
    pairs = list(combinations(figures, 2))
    p_values = holm([difference_p_value(figures[a], figures[b]) for a, b in pairs])
    different = {pair for pair, p in zip(pairs, p_values, strict=True) if p < SIGNIFICANCE}
    sign = 1 if better == "high" else -1
    best = max(figures, key=lambda row: sign * (figures[row].value or 0.0))
    equals = [row for row in figures if not {(row, best), (best, row)} & different]
    for row in equals:
        marks[row] = "tied" if len(equals) > 1 else "best"
    return marks
