"""Figures with intervals from counts, batches and samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from bench.arrays import FloatArray
from bench.statistics.metric import CONFIDENCE, HIGH_QUANTILE, LOW_QUANTILE, Metric


def wilson(hits: int, n: int) -> Metric:
    """The rate hits / n with Wilson's score interval; undefined for n = 0. ValueError unless 0 <= hits <= n."""
    hits, n = int(hits), int(n)
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits among {n}: must be between 0 and {n}")
    if n == 0:
        return Metric(None)
    low, high = wilson_bounds(hits, n)
    return Metric(hits / n, float(low), float(high), n)


def wilson_bounds(hits: ArrayLike, n: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Bounds of Wilson's score interval of the rates hits / n, elementwise; n > 0. Wilson 1927, doi:10.2307/2276774."""
    found, tried = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z = NormalDist().inv_cdf(HIGH_QUANTILE)
    middle = (found + z**2 / 2) / (tried + z**2)
    reach = z / (tried + z**2) * np.sqrt(found * (tried - found) / tried + z**2 / 4)
    # Exact where the formula is so but for rounding.
    low = np.where(found == 0, 0.0, middle - reach)
    high = np.where(found == tried, 1.0, middle + reach)
    return low, high


def cost_per_hit(total_cost: float, hits: int, n: int) -> Metric:
    """total_cost / hits, where each of n crystals is a hit or not; the interval is that of the rate (`wilson`).

    At zero hits undefined, with the one-sided 95 % bound as `low`: total_cost over the most hits that n crystals
    can be expected to give (Clopper and Pearson; for large n total_cost / 3).
    """
    from scipy.stats import binomtest

    rate = wilson(hits, n)
    if rate.low is None or rate.high is None:
        return Metric(None)
    if hits == 0:
        most = binomtest(0, n, alternative="less").proportion_ci(CONFIDENCE, method="exact").high
        return Metric(None, total_cost / (n * most), None, n)
    return Metric(total_cost / hits, total_cost / (n * rate.high), total_cost / (n * rate.low), n)


def seconds_per_crystal(
    seconds: ArrayLike, crystals: ArrayLike, seed: int = 0, repeats: ArrayLike | None = None
) -> Metric:
    """Seconds of a crystal from batches: `ratio_of_sums`, with an interval that knows of fresh starts.

    repeats: of each batch, which start of the model it belongs to. Starts differ by more than batches of one start,
    so with several the interval is the wider of two: over all batches, and over the means of the starts.
    """
    within = ratio_of_sums(seconds, crystals, seed)
    labels = np.asarray([] if repeats is None else repeats)
    starts = np.unique(labels)
    if within.value is None or len(starts) < 2:
        return within
    tops, bottoms = np.asarray(seconds, dtype=np.float64), np.asarray(crystals, dtype=np.float64)
    of_starts = [tops[labels == start].sum() for start in starts], [bottoms[labels == start].sum() for start in starts]
    between = ratio_of_sums(*of_starts, seed)
    low, high = between.bounds
    if within.low is None or within.high is None or low is None or high is None:
        return Metric(within.value, low, high, within.n)
    return Metric(within.value, min(low, within.low), max(high, within.high), within.n)


def ratio_of_sums(numerators: ArrayLike, denominators: ArrayLike, seed: int = 0) -> Metric:
    """sum(numerators) / sum(denominators), say seconds per crystal, with an interval over the pairs (batches).

    Student's t on the logarithms of the pairs' ratios: with few pairs a bootstrap over them covers far too seldom
    (a half with two of them). Pairs with less than half the largest denominator, the rest at the end of a run, count
    in the figure but not in the spread: a small batch costs more a crystal. On the ratios themselves where one is 0.

    seed: not used, as nothing is drawn. Undefined where the denominators add up to 0; without an interval for fewer
    than two pairs. n: number of pairs.
    """
    tops, bottoms = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    n = len(tops)
    if n == 0 or bottoms.sum() == 0:
        return Metric(None, n=n)
    value = float(tops.sum() / bottoms.sum())
    used = bottoms >= bottoms.max() / 2
    if used.sum() < 2:
        used = bottoms > 0
    if used.sum() < 2:
        return Metric(value, n=n)
    ratios = tops[used] / bottoms[used]
    if (ratios > 0).all():
        factor = math.exp(_t_reach(np.log(ratios)))
        return Metric(value, value / factor, value * factor, n)
    reach = _t_reach(ratios)
    return Metric(value, max(0.0, value - reach), value + reach, n)


def _t_reach(values: FloatArray) -> float:
    """Half the width of Student's t interval of the mean of at least two values."""
    from scipy.stats import t

    n = len(values)
    spread = np.std(values - values[0], ddof=1)  # exactly 0 of equal values, whose mean may be rounded
    return float(t.ppf(HIGH_QUANTILE, n - 1) * spread / math.sqrt(n))


def mean(sample: ArrayLike) -> Metric:
    """The mean with Student's t interval; undefined for an empty sample, without an interval for a single value.

    Of figures >= 0, and so are the bounds.
    """
    values = np.asarray(sample, dtype=np.float64)
    if len(values) < 2:
        return Metric(float(values[0]) if len(values) else None, n=len(values))
    value, reach = float(np.mean(values)), _t_reach(values)
    return Metric(value, max(0.0, value - reach), value + reach, len(values))


def median(sample: ArrayLike) -> Metric:
    """The median with the interval between two order statistics (binomial, free of assumptions)."""
    from scipy.stats import binom

    values = np.sort(np.asarray(sample, dtype=np.float64))
    n = len(values)
    if n == 0:
        return Metric(None)
    rank = int(binom.ppf(LOW_QUANTILE, n, 0.5))  # values[rank - 1] and its mirror image enclose the median
    low, high = (values[rank - 1], values[n - rank]) if rank >= 1 else (None, None)
    return Metric(float(np.median(values)), low, high, n)


def combine_shared(repeats: Sequence[Metric]) -> Metric:
    """One figure of several repeats whose errors are the same in all, of a calibration, say: means of all three."""
    values, lows, highs = ([getattr(r, name) for r in repeats] for name in ("value", "low", "high"))
    value, low, high = (None if None in part else float(np.mean(part)) for part in (values, lows, highs))
    return Metric(value, low, high, sum(metric.n for metric in repeats))


def combine(repeats: Sequence[Metric], most: float | None = None) -> Metric:
    """One figure of several repeats: their mean, with the wider of two intervals.

    One is the mean's with the errors that the repeats' own intervals say (lower and upper side apart), the other
    Student's t interval of the spread between them. Undefined where one repeat is; the outermost bounds are kept.
    Figures are >= 0 and at most `most`, and so are bounds.
    """
    if len(repeats) == 1:
        return repeats[0]
    n = sum(metric.n for metric in repeats)
    values = [metric.value for metric in repeats if metric.value is not None]
    lows = [metric.low for metric in repeats if metric.low is not None]
    highs = [metric.high for metric in repeats if metric.high is not None]
    count = len(repeats)
    if len(values) < count:
        return Metric(None, min(lows, default=None), max(highs) if len(highs) == count else None, n)
    mean = float(np.mean(values))
    spread = _t_reach(np.asarray(values, dtype=np.float64))
    below = above = spread
    if len(lows) == len(highs) == count:
        below = max(spread, math.hypot(*(v - low for v, low in zip(values, lows, strict=True))) / count)
        above = max(spread, math.hypot(*(high - v for v, high in zip(values, highs, strict=True))) / count)
    return Metric(mean, max(0.0, mean - below), mean + above if most is None else min(most, mean + above), n)
