"""Whether two figures differ beyond noise, from their intervals alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import TypeVar

from bench.statistics.metric import CONFIDENCE, HIGH_QUANTILE, Metric

SIGNIFICANCE = 1 - CONFIDENCE

Key = TypeVar("Key")


def difference_p_value(a: Metric, b: Metric) -> float:
    """Two-sided p-value of "the two figures are equal", from their 95 % intervals alone.

    The error of the difference combines the two distances from a figure to its bound on the other's side, so that
    skewed intervals count as they are (MOVER: Zou and Donner 2008, doi:10.1002/sim.3095); for Wilson intervals of
    two rates this is Newcombe's hybrid score interval (1998,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I). A figure without a bound on that side is
    taken to be exact. ValueError where one is undefined.
    """
    if a.value is None or b.value is None:
        raise ValueError(f"a figure that is undefined has no difference to another: {a}, {b}")
    lower, upper = (a, b) if a.value <= b.value else (b, a)
    difference = abs(a.value - b.value)
    if difference == 0:
        return 1.0
    reach = math.hypot(_reach(lower.value, lower.high), _reach(upper.value, upper.low))
    normal = NormalDist()
    return 2 * normal.cdf(-difference / reach * normal.inv_cdf(HIGH_QUANTILE)) if reach else 0.0


def quotient(a: Metric, b: Metric) -> Metric:
    """A / b of two independent figures > 0, such as how many times dearer one model is, with an interval from theirs.

    The errors add up on a logarithmic scale, each figure's on its own side (MOVER, as in `difference_p_value`). A
    figure without a value but with one bound, the cost of what never came, gives a bound of the quotient.
    """
    n = min(a.n, b.n)
    if a.value is None or b.value is None:
        (least_a, most_a), (least_b, most_b) = a.bounds, b.bounds
        low = least_a / most_b if least_a is not None and most_b else None
        high = most_a / least_b if most_a is not None and least_b else None
        return Metric(None, low, high, n)
    ratio = a.value / b.value
    below = math.hypot(_log_reach(a.value, a.low), _log_reach(b.value, b.high))
    above = math.hypot(_log_reach(a.value, a.high), _log_reach(b.value, b.low))
    return Metric(ratio, ratio * math.exp(-below), ratio * math.exp(above), n)


def differ(a: Metric, b: Metric) -> bool:
    """Whether two figures differ beyond noise: 0 lies outside the 95 % interval of their difference."""
    return difference_p_value(a, b) < SIGNIFICANCE


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for having been tested together (Holm 1979), in the order given: the step-down maxima."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for tested, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - tested) * p_values[place]))
        corrected[place] = largest
    return corrected


def pairwise_p_values(
    figures: Mapping[Key, Metric], pairs: Iterable[tuple[Key, Key]] | None = None
) -> dict[tuple[Key, Key], float]:
    """Pair -> `difference_p_value` of its figures, Holm-corrected over all of these pairs.

    pairs: by default each two of the figures, in their order. ValueError where a figure is undefined.
    """
    tested = list(combinations(figures, 2) if pairs is None else pairs)
    return dict(zip(tested, holm([difference_p_value(figures[a], figures[b]) for a, b in tested]), strict=True))


def _reach(value: float | None, bound: float | None) -> float:
    """Distance from a figure to its bound, 0 where it has none."""
    return 0.0 if value is None or bound is None else abs(bound - value)


def _log_reach(value: float, bound: float | None) -> float:
    """Distance from the logarithm of a figure > 0 to its bound's, 0 where it has none."""
    return 0.0 if bound is None else abs(math.log(bound / value))
