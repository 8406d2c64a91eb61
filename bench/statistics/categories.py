"""The Jensen-Shannon distance of a sample to a fixed distribution over categories, with an interval.

Its expectation depends on the size of the sample: few crystals miss rare categories. So the interval is that of the
expectation at this size, and `jensen_shannon_floor` says what as many training crystals give.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from bench.arrays import FloatArray, IntArray
from bench.statistics.distances import CHUNK_CELLS, RESAMPLES
from bench.statistics.metric import HIGH_QUANTILE, LOW_QUANTILE, Metric


def jensen_shannon(members: ArrayLike, reference: ArrayLike, times: ArrayLike | None = None) -> Metric:
    """Jensen-Shannon distance, base 2, from 0 to 1 (`scipy.spatial.distance.jensenshannon`), of a sample.

    members: (k, K) how often a crystal has each of K categories; times: (k,) how many crystals are like that, one by
    default. reference: (K,) counts of the fixed distribution. Undefined where one is empty; the interval (`jackknife`)
    is that over samples of as many crystals.
    """
    kinds, fixed = _counts(members), _counts(reference)
    if kinds.ndim != 2 or kinds.shape[1:] != fixed.shape:
        raise ValueError(
            f"members of shape {kinds.shape} and a reference of shape {fixed.shape} do not belong together"
        )
    alike = np.ones(len(kinds), dtype=np.int64) if times is None else _counts(times)
    kinds, alike = kinds[alike > 0], alike[alike > 0]
    chunk = max(1, CHUNK_CELLS // len(fixed))
    parts = [slice(start, start + chunk) for start in range(0, len(kinds), chunk)]
    total = sum((alike[part] @ kinds[part].astype(np.int64) for part in parts), np.zeros_like(fixed, dtype=np.int64))
    if not total.sum() or not fixed.sum():
        return Metric(None)
    target = fixed / fixed.sum()
    without = np.concatenate([_distances(total - kinds[part], target) for part in parts])
    return jackknife(float(_distances(total, target)), without, alike, most=1.0)


def jensen_shannon_floor(train: ArrayLike, test: ArrayLike, n: int, seed: int) -> Metric:
    """What `jensen_shannon` gives for n training crystals of one category each: median and 95 % range over draws.

    train, test: (K,) crystals of the splits by category. Undefined for n = 0.
    """
    weights, fixed = _counts(train), _counts(test)
    if n == 0 or not weights.sum() or not fixed.sum():
        return Metric(None)
    drawn = np.random.default_rng(seed).multinomial(n, weights / weights.sum(), size=RESAMPLES)
    low, middle, high = np.quantile(_distances(drawn, fixed / fixed.sum()), [LOW_QUANTILE, 0.5, HIGH_QUANTILE])
    return Metric(middle, low, high, n)


def jackknife(value: float, without: ArrayLike, times: ArrayLike | None = None, most: float | None = None) -> Metric:
    """A figure of n crystals with the interval of its expectation over samples of n: the delete-one jackknife.

    without: (k,) the figure without each of them; times: (k,) how many crystals each entry stands for, one by default.
    The variance is on average too large rather than too small (Efron and Stein 1981, doi:10.1214/aos/1176345462).
    Bounds stay within 0 and `most`. No interval for n = 1.
    """
    left = np.asarray(without, dtype=np.float64)
    weights = np.ones(len(left)) if times is None else np.asarray(times, dtype=np.float64)
    n = int(weights.sum())
    if n < 2:
        return Metric(value, n=n)
    mean = weights @ left / n
    variance = (n - 1) / n * (weights @ (left - mean) ** 2)
    reach = NormalDist().inv_cdf(HIGH_QUANTILE) * math.sqrt(variance)
    high = value + reach
    return Metric(value, max(0.0, value - reach), high if most is None else min(most, high), n)


def _distances(counts: IntArray, target: FloatArray) -> FloatArray:
    """(...) Jensen-Shannon distances of counts (..., K) to probabilities (K,); 0 where nothing is counted."""
    totals = counts.sum(axis=-1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    middle = (shares + target) / 2
    divergence = (_plogp(shares, middle) + _plogp(np.broadcast_to(target, shares.shape), middle)) / 2
    return np.asarray(np.sqrt(np.maximum(divergence, 0.0)), dtype=np.float64)


def _plogp(shares: FloatArray, middle: FloatArray) -> FloatArray:
    """(...) sum of p log2(p / m), whose terms are 0 where p is."""
    ratio = np.divide(shares, middle, out=np.ones_like(middle), where=shares > 0)
    return np.asarray((shares * np.log2(ratio)).sum(axis=-1), dtype=np.float64)


def _counts(values: ArrayLike) -> IntArray:
    counts = np.asarray(values)
    if not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError("counts of categories must be whole numbers >= 0")
    return counts
