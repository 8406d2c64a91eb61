"""Counts by a whole number, in files: those that are not 0, by the number as a text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.arrays import IntArray


def sparse(counts: IntArray) -> dict[str, int]:
    """Number -> its count, of (n,) counts of the numbers 0 .. n - 1."""
    return {str(number): int(count) for number, count in enumerate(counts) if count}


def dense(counts: Mapping[str, int], length: int | None = None) -> IntArray:
    """(length,) counts of the numbers from 0 on, by default up to the largest. IndexError where one is larger."""
    found = np.zeros(1 + max(map(int, counts), default=0) if length is None else length, dtype=np.int64)
    for number, count in counts.items():
        found[int(number)] = count
    return found
