"""Composition fingerprints: statistics of Magpie's element properties, scaled as the published evaluations scale them.

For each of 22 properties the minimum, maximum, range, mean, mean absolute deviation and mode over the atoms (Ward et
al. 2016, doi:10.1038/npjcompumats.2016.28), in the order of matminer's preset "magpie"; where a property of an element
is not known, its statistics are not. Then (x - mean) / standard deviation with the constants of CDVAE's code, which
DiffCSP uses too, and 0 for what is not known.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystals import MAX_ATOMIC_NUMBER

STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")


@dataclass(frozen=True, eq=False)
class Magpie:
    """properties: (119, 22) by atomic number, NaN where unknown. means, stds: (132,) of the statistics."""

    properties: FloatArray
    means: FloatArray
    stds: FloatArray


@functools.cache
def magpie() -> Magpie:
    """The element properties and the constants of the scaling, which are in the package."""
    content = json.loads((resources.files("tasks") / "coverage/magpie.json").read_text(encoding="utf-8"))
    values = np.array(list(content["properties"].values()), dtype=np.float64)  # null becomes NaN
    properties = np.full((MAX_ATOMIC_NUMBER + 1, len(values)), np.nan)
    properties[1:] = values.T
    return Magpie(properties, np.array(content["means"]), np.array(content["stds"]))


def composition_statistics(counts: IntArray) -> FloatArray:
    """(B, 132) statistics of B compositions, NaN where unknown. counts: (B, 119) atoms by atomic number."""
    table = magpie().properties
    rows = np.empty((len(counts), table.shape[1], len(STATISTICS)))
    for row, composition in zip(rows, counts, strict=True):
        numbers = np.flatnonzero(composition)
        weights = composition[numbers] / composition[numbers].sum()
        values = table[numbers]  # (elements, 22)
        low, high, mean = values.min(axis=0), values.max(axis=0), weights @ values
        deviation = weights @ np.abs(values - mean)
        mode = values[composition[numbers] == composition[numbers].max()].min(axis=0)
        row[:] = np.stack([low, high, high - low, mean, deviation, mode], axis=1)
    return rows.reshape(len(counts), -1)


def composition_fingerprints(counts: IntArray) -> FloatArray:
    """(B, 132) scaled statistics. counts: (B, 119) atoms by atomic number, at least one in each row."""
    constants = magpie()
    return np.asarray(np.nan_to_num((composition_statistics(counts) - constants.means) / constants.stds, nan=0.0))
