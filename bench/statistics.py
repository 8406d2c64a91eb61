"""Metrics with intervals, and tests of differences between models.

All intervals are at 95 %. Randomness comes from a seed; nothing touches global random state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from bench.arrays import FloatArray, IntArray

Key = TypeVar("Key")

CONFIDENCE = 0.95
SIGNIFICANCE = 1 - CONFIDENCE
LOW_QUANTILE, HIGH_QUANTILE = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
RESAMPLES = 1000
CHUNK_CELLS = 1_000_000  # numbers held at once while resampling, 8 MB

# Where two distribution functions differ by less than this many standard errors they are taken to be equal (`emd`).
# In a simulation on densities and numbers of elements of Perov-5, 50 and 1000 crystals, at the floor and off it, 3
# covers in 94 to 99 % of cases; 1.5 in 92 to 99 %, the basic bootstrap in 76 to 93 %, subsampling in 47 to 91 %.
EQUAL_WITHIN_ERRORS = 3.0
MAX_SUPPORT = 5000  # different values kept in the resampling of larger samples


@dataclass(frozen=True)
class Metric:
    """A figure with its 95 % interval. `value` None is undefined; at zero hits `low` alone is the one-sided bound.

    n: how many crystals, or batches, it comes from. Raises ValueError for NaN and infinity: undefined is None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is None:
                continue
            if not math.isfinite(number):
                raise ValueError(f"{name} of a metric is {number}; what is undefined is None")
            object.__setattr__(self, name, float(number))
        object.__setattr__(self, "n", int(self.n))

    @property
    def has_interval(self) -> bool:
        """Whether value and both bounds are known."""
        return None not in (self.value, self.low, self.high)

    def to_json(self) -> dict[str, float | int | None]:
        """Its four fields, ready for `json.dumps`."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The metric that `to_json` wrote. ValueError where the keys are others."""
        if set(data) != {"value", "low", "high", "n"}:
            raise ValueError(f"a metric has the keys value, low, high and n, not {', '.join(sorted(data)) or 'none'}")
        return cls(**data)


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
    low, high = _bounds(between)
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
    return float(t.ppf(HIGH_QUANTILE, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


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


def emd(sample: ArrayLike, reference: ArrayLike, seed: int) -> Metric:
    """Earth mover's distance (`scipy.stats.wasserstein_distance`) of a sample's distribution to a fixed reference.

    sample: (n,), reference: (m,), finite. Undefined where one is empty; no interval for n = 1.

    The distance W = int |F - G| has no derivative where F = G: near its floor the bootstrap of it is biased upward,
    and the percentile interval lies above the true value. So the bootstrap resamples the process F* - F instead, and
    its directional derivatives give the bounds (Fang and Santos 2019, doi:10.1093/restud/rdy049): W(F_n) exceeds
    W(F) by at most int |F* - F| where F and G cannot be told apart, by int sign(F - G)(F* - F) elsewhere; W being
    convex, the latter everywhere bounds how far it falls short. The interval encloses the value; off the floor it is
    the percentile bootstrap's.
    """
    from scipy.stats import wasserstein_distance

    values, fixed = _finite(sample, "the sample"), _finite(reference, "the reference")
    n = len(values)
    if n == 0 or len(fixed) == 0:
        return Metric(None)
    value = float(wasserstein_distance(values, fixed))
    if n == 1:
        return Metric(value, n=n)
    above, below = _emd_errors(values, fixed, np.random.default_rng(seed), RESAMPLES)
    excess, shortfall = np.quantile(above, HIGH_QUANTILE), np.quantile(below, HIGH_QUANTILE)
    return Metric(value, max(0.0, value - max(0.0, excess)), value + max(0.0, shortfall), n)


def emd_floor(train: ArrayLike, test: ArrayLike, n: int, seed: int) -> Metric:
    """What `emd` gives for n training crystals against the test split: median and 95 % range over random draws.

    The draws are independent (with replacement), as those of a generator that had learnt the training split by heart
    would be. Undefined for n = 0.
    """
    support, weights = np.unique(_finite(train, "the training split"), return_counts=True)
    fixed = _finite(test, "the test split")
    if n == 0 or len(support) == 0 or len(fixed) == 0:
        return Metric(None)
    grid = np.unique(np.concatenate([support, fixed]))
    widths = np.diff(grid)
    reference_cdf = _cdf(np.sort(fixed), grid[:-1])
    place = np.searchsorted(support, grid[:-1], side="right")
    rng = np.random.default_rng(seed)
    distances = np.concatenate(
        [
            np.abs(np.pad(cdfs, ((0, 0), (1, 0)))[:, place] - reference_cdf) @ widths
            for cdfs in _resampled_cdfs(weights, n, rng, RESAMPLES, len(grid))
        ]
    )
    low, middle, high = np.quantile(distances, [LOW_QUANTILE, 0.5, HIGH_QUANTILE])
    return Metric(middle, low, high, n)


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
        (least_a, most_a), (least_b, most_b) = _bounds(a), _bounds(b)
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


def _bounds(metric: Metric) -> tuple[float | None, float | None]:
    """Both bounds; a figure without one is exact there."""
    low = metric.value if metric.low is None else metric.low
    return low, metric.value if metric.high is None else metric.high


def _log_reach(value: float, bound: float | None) -> float:
    """Distance from the logarithm of a figure > 0 to its bound's, 0 where it has none."""
    return 0.0 if bound is None else abs(math.log(bound / value))


def _emd_errors(
    values: FloatArray, reference: FloatArray, rng: np.random.Generator, resamples: int
) -> tuple[FloatArray, FloatArray]:
    """(resamples,) each: by how much the distance of a sample may come out above the true one, and below it."""
    n = len(values)
    support, weights = _support(values)
    grid = np.unique(np.concatenate([support, reference]))
    grid = grid[(grid >= support[0]) & (grid <= support[-1])]  # outside, every resample has the same F
    widths = np.diff(grid)
    cdf = np.cumsum(weights) / n
    interval = np.searchsorted(support, grid[:-1], side="right") - 1  # F* is constant between values of the sample
    sample_cdf = cdf[interval]
    difference = sample_cdf - _cdf(np.sort(reference), grid[:-1])
    equal = np.abs(difference) <= EQUAL_WITHIN_ERRORS * np.sqrt(sample_cdf * (1 - sample_cdf) / n)

    def per_interval(length: FloatArray) -> FloatArray:
        return np.bincount(interval, length, minlength=len(support)).astype(np.float64)

    slopes = per_interval(np.sign(difference) * widths)
    slopes_where_different = per_interval(np.sign(difference) * widths * ~equal)
    lengths_where_equal = per_interval(widths * equal)
    above, below = [], []
    for cdfs in _resampled_cdfs(weights, n, rng, resamples, len(support)):
        change = cdfs - cdf
        above.append(np.abs(change) @ lengths_where_equal + change @ slopes_where_different)
        below.append(change @ slopes)
    return np.concatenate(above), np.concatenate(below)


def _support(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Different values in ascending order and how often each occurs; neighbours are merged above MAX_SUPPORT."""
    support, weights = np.unique(values, return_counts=True)
    if len(support) > MAX_SUPPORT:
        starts = np.linspace(0, len(support), MAX_SUPPORT, endpoint=False).astype(np.int64)
        totals = np.add.reduceat(weights, starts)
        support, weights = np.add.reduceat(support * weights, starts) / totals, totals
    return support, weights


def _resampled_cdfs(
    weights: IntArray, n: int, rng: np.random.Generator, resamples: int, width: int
) -> Iterator[FloatArray]:
    """(some, values) distribution functions of samples of n drawn in proportion to the weights, `resamples` in all.

    width: numbers that the caller holds for each resample, which bounds how many come at once.
    """
    num_values, total = len(weights), int(weights.sum())
    # Drawing n places is faster than num_values binomial counts, as long as n is small.
    value_of_place = np.repeat(np.arange(num_values), weights) if n < 5 * num_values else None
    chunk = max(1, CHUNK_CELLS // max(width, num_values, n if value_of_place is not None else 1))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        if value_of_place is None:
            counts = rng.multinomial(n, weights / total, size=rows)
        else:
            drawn = value_of_place[rng.integers(total, size=(rows, n))] + num_values * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * num_values).reshape(rows, num_values)
        yield np.cumsum(counts, axis=1) / n


def _cdf(ordered: FloatArray, points: FloatArray) -> FloatArray:
    """Share of the ordered values at or below each point."""
    return np.searchsorted(ordered, points, side="right") / len(ordered)


def _finite(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} of an earth mover's distance has {(~np.isfinite(array)).sum()} values not finite")
    return array
