"""Metrics with intervals, and tests of differences between models.

All intervals are at 95 %. Randomness comes from a seed; nothing touches global random state.
"""

from bench.statistics.categories import jackknife, jensen_shannon, jensen_shannon_floor
from bench.statistics.comparisons import SIGNIFICANCE, differ, difference_p_value, holm, pairwise_p_values, quotient
from bench.statistics.distances import CHUNK_CELLS, EQUAL_WITHIN_ERRORS, RESAMPLES, emd, emd_floor
from bench.statistics.intervals import (
    combine,
    combine_shared,
    cost_per_hit,
    mean,
    median,
    ratio_of_sums,
    seconds_per_crystal,
    wilson,
    wilson_bounds,
)
from bench.statistics.metric import CONFIDENCE, HIGH_QUANTILE, LOW_QUANTILE, Metric

__all__ = [
    "CHUNK_CELLS",
    "CONFIDENCE",
    "EQUAL_WITHIN_ERRORS",
    "HIGH_QUANTILE",
    "LOW_QUANTILE",
    "RESAMPLES",
    "SIGNIFICANCE",
    "Metric",
    "combine",
    "combine_shared",
    "cost_per_hit",
    "differ",
    "difference_p_value",
    "emd",
    "emd_floor",
    "holm",
    "jackknife",
    "jensen_shannon",
    "jensen_shannon_floor",
    "mean",
    "median",
    "pairwise_p_values",
    "quotient",
    "ratio_of_sums",
    "seconds_per_crystal",
    "wilson",
    "wilson_bounds",
]
