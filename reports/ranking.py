"""Which figures of a column are the best, and which of them noise cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import inf, sqrt
from statistics import NormalDist
from typing import Literal

from bench.statistics import CONFIDENCE, Metric, holm

Mark = Literal["best", "tied", ""]
SIGNIFICANCE = 1 - CONFIDENCE


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


def difference_p_value(a: Metric, b: Metric) -> float:
    """Two-sided p-value of "the two figures are equal", from their 95 % intervals alone.

    The error of the difference combines the two distances from a figure to its bound on the other's side, so that
    skewed intervals count as they are (MOVER: Zou and Donner 2008, doi:10.1002/sim.3095); for Wilson intervals of
    two rates this is Newcombe's hybrid score interval. Raises ValueError where a value or bound is missing.
    """
    if None in (a.value, a.low, a.high, b.value, b.low, b.high):
        raise ValueError(f"figures to compare need a value and an interval: {a}, {b}")
    (upper, upper_low, _), (lower, _, lower_high) = sorted(
        [(m.value or 0.0, m.low or 0.0, m.high or 0.0) for m in (a, b)], reverse=True
    )
    if upper == lower:
        return 1.0
    quantile = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    error = sqrt((upper - upper_low) ** 2 + (lower_high - lower) ** 2) / quantile
    return 2 * NormalDist().cdf((lower - upper) / error if error else -inf)
