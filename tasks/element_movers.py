"""The element mover's distance of compositions: how far their atoms move along Pettifor's order of the elements.

ElMD (Hargreaves et al. 2020, doi:10.1021/acs.chemmater.0c03381) on one scale is the earth mover's distance in one
dimension: the area between the cumulated shares of the atoms. The scale is Pettifor's (1984), as pymatgen has it.
"""

from __future__ import annotations

import functools

import numpy as np

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.crystals import MAX_ATOMIC_NUMBER, Crystals
from bench.statistics import CHUNK_CELLS


@functools.cache
def pettifor_numbers() -> IntArray:
    """(119,) places of the elements by atomic number, 1 to 103; 0 where an element has none."""
    from pymatgen.core import Element

    places = np.zeros(MAX_ATOMIC_NUMBER + 1, dtype=np.int64)
    for number in range(1, 104):
        places[number] = round(float(Element.from_Z(number).mendeleev_no or 0))
    return places


def has_place(crystals: Crystals) -> BoolArray:
    """(B,) whether all elements of a crystal have a place."""
    known = pettifor_numbers()[crystals.atomic_numbers] > 0
    return np.asarray(np.logical_and.reduceat(known, crystals.offsets[:-1])) if len(crystals) else np.zeros(0, bool)


def cumulated_shares(crystals: Crystals) -> FloatArray:
    """(B, 103) share of a crystal's atoms up to each place; all elements must have one."""
    places = pettifor_numbers()
    shares = np.zeros((len(crystals), int(places.max())))
    rows = np.repeat(np.arange(len(crystals)), crystals.num_atoms)
    np.add.at(shares, (rows, places[crystals.atomic_numbers] - 1), 1.0)
    return np.asarray(np.cumsum(shares / crystals.num_atoms[:, None], axis=1))


def nearest(sample: FloatArray, others: FloatArray) -> tuple[FloatArray, IntArray]:
    """(n,) distance of each of (n, 103) cumulated shares to the nearest of (m, 103), and (n,) that one's row."""
    from scipy.spatial.distance import cdist

    found, rows = np.empty(len(sample)), np.empty(len(sample), dtype=np.int64)
    chunk = max(1, CHUNK_CELLS // max(len(others), 1))
    for start in range(0, len(sample), chunk):
        distances = cdist(sample[start : start + chunk], others, "cityblock")
        rows[start : start + chunk] = distances.argmin(axis=1)
        found[start : start + chunk] = distances.min(axis=1)
    return found, rows


def difference_sums(sample: FloatArray, weights: FloatArray) -> FloatArray:
    """(k, n) sums over all of (n, 103) cumulated shares of d / (1 + d) to each of them, by (k, n) weights."""
    from scipy.spatial.distance import cdist

    sums = np.empty(weights.shape)
    chunk = max(1, CHUNK_CELLS // max(len(sample), 1))
    for start in range(0, len(sample), chunk):
        distances = cdist(sample, sample[start : start + chunk], "cityblock")
        sums[:, start : start + chunk] = weights @ normalised(distances)
    return sums


def normalised(distances: FloatArray) -> FloatArray:
    """Maps d to d / (1 + d): 0 for the same composition, towards 1 for one far away."""
    return np.asarray(distances / (1 + distances))
