"""Memorisation: how far a crystal's composition is from the nearest one of the training split, and continuous S.U.N.

The distance is that of `tasks.element_movers`, 0 for a formula of the training split. Continuous S.U.N. (Negishi et
al. 2025, openreview PiKMmLHbEH) multiplies three scores from 0 to 1 of each crystal: stability falls from 1 on the
hull to 0 at 0.4289 eV/atom, uniqueness is the mean of d / (1 + d) to the other crystals, novelty that of the nearest
training composition.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench.arrays import FloatArray, IntArray
from bench.crystals import MAX_ATOMIC_NUMBER, Crystals
from bench.datasets import DataUnavailable, Split, load_split, split_hash
from bench.interfaces import task_rows, task_schema
from bench.statistics import Metric, jackknife, mean, median, wilson
from tasks.element_movers import cumulated_shares, difference_sums, has_place, nearest, normalised, pettifor_numbers

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

WITHIN = (0, 1, 2, 4, 8, 16)  # distances at which the curve is given; the table has every crystal's
ZERO = 1e-9  # below which two compositions are the same but for rounding
NO_STABILITY_EV = 0.4289  # eV/atom above the hull from which the score is 0: the published 99.9 % of MP-20's test split
TEST_CRYSTALS = 1000  # of the test split, evenly spaced, for the reference values


@dataclass(frozen=True)
class Memorisation:
    """The task. dataset: whose training split; where that is not at hand, distances are null with the reason."""

    dataset: str
    name: str = "memorisation"

    @property
    def schema(self) -> pa.Schema:
        """training_distance: to the nearest training composition; training_row: that crystal's row in the split."""
        return task_schema({"training_distance": pa.float64(), "training_row": pa.int64()})

    def protocol(self) -> dict[str, Any]:
        """The distance, the points of the curve, the scores, and the training split. DataUnavailable without one."""
        return {
            "distance": "element mover's, Pettifor's order",
            "pymatgen": version("pymatgen"),
            "within": WITHIN,
            "no_stability_ev_per_atom": NO_STABILITY_EV,
            "training_split": split_hash(self.dataset, "train"),
        }

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal."""
        known = has_place(crystals)
        distances, rows = np.full(len(crystals), np.nan), np.zeros(len(crystals), dtype=np.int64)
        reasons: list[str | None] = [None if fine else "an element has no place in Pettifor's order" for fine in known]
        if known.any():
            shares, training_rows = _compositions(self.dataset, "train")
            distances[known], place = nearest(cumulated_shares(crystals[np.flatnonzero(known)]), shares)
            rows[known] = training_rows[place]
        distances[distances < ZERO] = 0.0
        columns = {
            "training_distance": pa.array(distances, mask=~known),
            "training_row": pa.array(rows, mask=~known),
            "reason": reasons,
        }
        return task_rows(self.schema, crystals, columns)

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """The curve over all requested crystals, beside the test split's own, and continuous S.U.N. with `stability`.

        A crystal that does not exist is near nothing and has 0 in every score.
        """
        table = tables[self.name]
        distances = table["training_distance"].fill_null(np.inf).to_numpy()
        n = len(distances)
        metrics = {f"within_{edge}_of_training": wilson(int((distances <= edge).sum()), n) for edge in WITHIN}
        test = _test_distances(self.dataset)
        for edge in WITHIN:
            value = None if test is None else float((test <= edge).mean())
            metrics[f"within_{edge}_of_training_test"] = Metric(value, n=0 if test is None else len(test))
        near = np.isfinite(distances)
        metrics["training_distance_median"] = median(distances[near])
        novelty = np.zeros(n)
        novelty[near] = normalised(distances[near])
        scores = {"continuous_uniqueness": np.ones(n)}  # of each crystal, but for its uniqueness
        if "stability" in tables:
            energies = tables["stability"]["e_above_hull"].fill_null(np.inf).to_numpy()
            scores["continuous_sun"] = stability_scores(energies) * novelty
        metrics["continuous_novelty"], metrics["continuous_sun"] = mean(novelty), Metric(None)
        shares = _shares_of(table.filter(pa.array(near))["formula"].to_pylist())
        return metrics | dict(
            zip(scores, times_uniqueness(shares, np.stack([*scores.values()])[:, near], n), strict=True)
        )


def times_uniqueness(shares: FloatArray, scores: FloatArray, n: int) -> list[Metric]:
    """Mean over n crystals of score x uniqueness for each of (k, m) scores; what is not among the m has 0.

    shares: (m, 103) cumulated. A crystal's uniqueness depends on all others, so the interval is that of leaving out
    each crystal in turn, from its own uniqueness and from that of the others.
    """
    m = len(shares)
    if not n:
        return [Metric(None) for _ in scores]
    sums = difference_sums(shares, np.concatenate([np.ones((1, m)), scores]))
    found = []
    for own, weighted in zip(scores, sums[1:], strict=True):
        total = own @ sums[0] / max(m - 1, 1)
        without = np.full(n, total)
        without[:m] = (own @ sums[0] - own * sums[0] - weighted) / max(m - 2, 1)
        found.append(jackknife(float(total / n), without / max(n - 1, 1), most=1.0))
    return found


def stability_scores(e_above_hull: FloatArray) -> FloatArray:
    """Scores of energies (n,) in eV/atom: 1 up to the hull, 0 from NO_STABILITY_EV on, straight between."""
    return np.clip(1 - e_above_hull / NO_STABILITY_EV, 0.0, 1.0)


@functools.cache
def _compositions(dataset: str, split: Split) -> tuple[FloatArray, IntArray]:
    """(m, 103) cumulated shares of the different compositions of a split, and (m,) the first row that has each.

    DataUnavailable where the split is not at hand.
    """
    crystals = load_split(dataset, split, workers=1, download=False)
    known = np.flatnonzero(has_place(crystals))
    shares, first = np.unique(cumulated_shares(crystals[known]).round(12), axis=0, return_index=True)
    return shares, np.asarray(known[first])


@functools.cache
def _test_distances(dataset: str) -> FloatArray | None:
    """Distances of TEST_CRYSTALS of the test split to the training split; None where one is not at hand."""
    try:
        crystals = load_split(dataset, "test", workers=1, download=False)
        training, _ = _compositions(dataset, "train")
    except DataUnavailable:
        return None
    chosen = crystals[np.unique(np.linspace(0, len(crystals) - 1, TEST_CRYSTALS).round().astype(np.int64))]
    found, _ = nearest(cumulated_shares(chosen[np.flatnonzero(has_place(chosen))]), training)
    return np.where(found < ZERO, 0.0, found)


def _shares_of(formulas: list[str]) -> FloatArray:
    """(n, 103) cumulated shares of reduced formulas."""
    return np.asarray([_of_formula(formula) for formula in formulas])


@functools.lru_cache(maxsize=100_000)
def _of_formula(formula: str) -> FloatArray:
    from pymatgen.core import Composition

    places = pettifor_numbers()
    shares = np.zeros(int(places.max()))
    composition = Composition(formula)
    for element, amount in composition.items():
        shares[places[min(element.Z, MAX_ATOMIC_NUMBER)] - 1] += amount / composition.num_atoms
    return np.asarray(np.cumsum(shares))
