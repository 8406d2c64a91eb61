"""Logistic regression with the covariance of its coefficients."""

from __future__ import annotations

import numpy as np

from bench.arrays import BoolArray, FloatArray

MAX_STEPS = 100
MAX_SLOPE = 1e3  # per eV/atom; beyond it the labels change sides at one energy, and the slope is not known


def probabilities(features: FloatArray, coefficients: FloatArray) -> FloatArray:
    """1 / (1 + exp(-features @ coefficients)). features: (n, K), the first column of ones; coefficients: (K,)."""
    from scipy.special import expit

    return np.asarray(expit(features @ coefficients))


def fit(features: FloatArray, labels: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients (K,) of greatest likelihood and their covariance (K, K), the inverse of Fisher's information.

    Newton's method with halved steps. ValueError where there is no such maximum: all labels are the same, or a line
    divides them without an exception.
    """
    if labels.all() or not labels.any():
        raise ValueError(f"all {len(labels)} crystals have the same label; there is nothing to fit")
    coefficients = np.zeros(features.shape[1])
    best = _loss(features, labels, coefficients)
    for _ in range(MAX_STEPS):
        expected = probabilities(features, coefficients)
        information = (features * (expected * (1 - expected))[:, None]).T @ features
        try:
            step = np.linalg.solve(information, features.T @ (labels - expected))
        except np.linalg.LinAlgError:
            break
        while _loss(features, labels, coefficients + step) > best + 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2
        coefficients = coefficients + step
        best = _loss(features, labels, coefficients)
        if np.abs(coefficients).max() > MAX_SLOPE:
            break
        if np.abs(step).max() < 1e-9:
            return np.asarray(coefficients, dtype=np.float64), np.asarray(np.linalg.inv(information))
    raise ValueError(f"the labels of the {len(labels)} crystals are divided without an exception; fit more of them")


def _loss(features: FloatArray, labels: BoolArray, coefficients: FloatArray) -> float:
    logits = features @ coefficients
    return float(np.logaddexp(0.0, logits).sum() - logits[labels].sum())


def spread_between(groups: FloatArray, labels: BoolArray, expected: FloatArray) -> float:
    """Standard deviation of the logits' offsets between groups, beyond what chance makes of the labels.

    groups: (n,) numbers of groups. expected: (n,) probabilities of a fit to all. DerSimonian and Laird's estimate from
    the groups' one-step offsets, doi:10.1016/0197-2456(86)90046-2.
    """
    chosen = [groups == group for group in np.unique(groups)]
    weights = np.array([(expected[c] * (1 - expected[c])).sum() for c in chosen])
    scores = np.array([(labels[c] - expected[c]).sum() for c in chosen])
    told = weights > 1e-9
    weights, offsets = weights[told], scores[told] / weights[told]
    if len(weights) < 2:
        return 0.0
    mean = (weights * offsets).sum() / weights.sum()
    excess = (weights * (offsets - mean) ** 2).sum() - (len(weights) - 1)
    return float(np.sqrt(max(0.0, excess) / (weights.sum() - (weights**2).sum() / weights.sum())))
