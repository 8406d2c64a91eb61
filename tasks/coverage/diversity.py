"""How diverse a sample is: the mean distance of its pairs, and the number of different crystals that it is worth."""

from __future__ import annotations

import numpy as np

from bench.arrays import FloatArray
from bench.statistics import CHUNK_CELLS, Metric, jackknife

NO_SHARE = 1e-12  # an eigenvalue below it is one of rounding; they add up to 1


def mean_pair_distance(fingerprints: FloatArray) -> Metric:
    """Mean distance of the pairs of (n, K) fingerprints; undefined for n = 1."""
    from scipy.spatial.distance import cdist

    n = len(fingerprints)
    if n < 2:
        return Metric(None, n=n)
    chunk = max(1, CHUNK_CELLS // n)
    sums = np.concatenate(
        [cdist(fingerprints[start : start + chunk], fingerprints).sum(axis=1) for start in range(0, n, chunk)]
    )
    total = sums.sum() / 2  # each pair once
    without = (total - sums) / ((n - 1) * (n - 2) / 2) if n > 2 else np.full(n, total)
    return jackknife(float(total / (n * (n - 1) / 2)), without)


def vendi_score(fingerprints: FloatArray) -> Metric:
    """The exponential of the entropy of the eigenvalues of the n similarities (cosines) over n: 1 where all are alike.

    fingerprints: (n, K), of which none may be all 0. At most K, as the eigenvalues are those of the K x K matrix of
    moments; so it takes n K^2 operations. The interval is the infinitesimal jackknife: the slope of the entropy
    in the weight of each crystal. Undefined for n = 0. Friedman and Dieng 2023 (arXiv 2210.02410).
    """
    n = len(fingerprints)
    if not n:
        return Metric(None)
    units = fingerprints / np.linalg.norm(fingerprints, axis=1, keepdims=True)
    shares, directions = np.linalg.eigh(units.T @ units / n)
    kept = shares > NO_SHARE
    logarithms = np.log(shares[kept])
    entropy = -float(shares[kept] @ logarithms)
    own = (units @ directions[:, kept]) ** 2 @ logarithms  # (n,) minus what each adds to the entropy
    without = np.exp(entropy + (entropy + own) / max(n - 1, 1))
    return jackknife(float(np.exp(entropy)), without)
