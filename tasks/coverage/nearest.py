"""Nearest neighbours between two sets of fingerprints, and what they say of a sample that covers a test split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.statistics import CHUNK_CELLS


@dataclass(frozen=True, eq=False)
class Nearest:
    """Distances between n fingerprints of a sample and m of a test split.

    of_sample: (n,) from each to the nearest of the split. of_split: (m,) from each to the nearest of the sample,
    second: to the second nearest, infinite where there is one only; closest: (m,) place of the nearest.
    """

    of_sample: FloatArray
    of_split: FloatArray
    second: FloatArray
    closest: IntArray

    @classmethod
    def between(cls, sample: FloatArray, split: FloatArray) -> Nearest:
        """Those of (n, K) and (m, K) fingerprints, n and m at least 1; bounded memory."""
        from scipy.spatial.distance import cdist

        of_sample = np.full(len(sample), np.inf)
        of_split, second = np.empty(len(split)), np.full(len(split), np.inf)
        closest = np.empty(len(split), dtype=np.int64)
        chunk = max(1, CHUNK_CELLS // len(sample))
        for start in range(0, len(split), chunk):
            part = slice(start, min(start + chunk, len(split)))
            distances = cdist(sample, split[part])  # (n, some)
            of_sample = np.minimum(of_sample, distances.min(axis=1))
            closest[part] = distances.argmin(axis=0)
            if len(sample) > 1:
                of_split[part], second[part] = np.partition(distances, 1, axis=0)[:2]
            else:
                of_split[part] = distances[0]
        return cls(of_sample, of_split, second, closest)

    def means_without(self) -> FloatArray:
        """(n,) mean of `of_split` without each of the sample, infinite where nothing is left."""
        rise = np.bincount(self.closest, self.second - self.of_split, minlength=len(self.of_sample))
        return np.asarray(self.of_split.mean() + rise / len(self.of_split))


def recall_without(structure: Nearest, composition: Nearest, cutoffs: tuple[float, float]) -> FloatArray:
    """(n,) share of the split that is covered without each of the sample.

    A crystal of the split is covered where one of the sample has a structure within the first cut-off, and one, which
    may be another, a composition within the second.
    """
    covered = is_covered(structure, composition, cutoffs)
    size = len(structure.of_sample)
    sole = [near.second > cutoff for near, cutoff in zip((structure, composition), cutoffs, strict=True)]
    by_structure = np.bincount(structure.closest[covered & sole[0]], minlength=size)
    by_composition = np.bincount(composition.closest[covered & sole[1]], minlength=size)
    both = covered & sole[0] & sole[1] & (structure.closest == composition.closest)
    lost = by_structure + by_composition - np.bincount(structure.closest[both], minlength=size)
    return np.asarray(covered.mean() - lost / len(covered))


def is_covered(structure: Nearest, composition: Nearest, cutoffs: tuple[float, float]) -> BoolArray:
    """(m,) whether each of the split is covered."""
    return np.asarray((structure.of_split <= cutoffs[0]) & (composition.of_split <= cutoffs[1]))
