"""Histograms of the energy above hull, with the same bins for all models, and what lies outside them counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.interfaces import flags
from bench.statistics import Metric, median
from reports.csv_text import csv_text
from reports.run_results import ModelResult, task_protocols
from reports.tables.split_row import TEST_SPLIT, split_energies

# The paper's threshold of 0.1 eV/atom is an edge of every choice of bins.
RIGHT_EDGES = {0.5: 0.025, 1.0: 0.05, 2.0: 0.05, 4.0: 0.1}  # eV/atom: where the bins end, and their width
LEFT_EDGES = (0.0, -0.1, -0.2, -0.5, -1.0)
BIN_COLUMNS = ("dataset", "model", "low", "high", "crystals", "not_converged", "share")
MODEL_COLUMNS = ("requested", "median", "median_low", "median_high")
RIGHT_SHARE, LEFT_SHARE = 0.9, 0.995  # of all models' crystals that the bins should reach


@dataclass(frozen=True, eq=False)
class HullHistogram:
    """One model's crystals by energy above hull.

    requested: crystals asked for. edges: (bins + 1,) eV/atom. converged, unconverged: (bins,) crystals whose relaxation
    came to its end or not. below, above: crystals outside the bins. median: eV/atom, of all that have an energy.
    stable_below: eV/atom, the threshold under which they were scored.
    """

    method: str
    requested: int
    edges: FloatArray
    converged: IntArray
    unconverged: IntArray
    below: int
    above: int
    median: Metric
    stable_below: float

    @classmethod
    def of(
        cls,
        method: str,
        requested: int,
        energies: FloatArray,
        converged: BoolArray,
        edges: FloatArray,
        stable_below: float,
    ) -> HullHistogram:
        """energies: (n,) eV/atom, finite, of the crystals that have one; converged: (n,)."""
        return cls(
            method,
            requested,
            edges,
            np.histogram(energies[converged], edges)[0],
            np.histogram(energies[~converged], edges)[0],
            int((energies < edges[0]).sum()),
            int((energies > edges[-1]).sum()),
            median(energies),
            stable_below,
        )

    @property
    def missing(self) -> int:
        """Crystals without an energy: not parsed, not relaxed, or of elements that the hull lacks."""
        return self.requested - self.median.n

    @property
    def shares(self) -> FloatArray:
        """(bins,) fractions of the crystals asked for."""
        return np.asarray((self.converged + self.unconverged) / max(self.requested, 1), dtype=np.float64)


def hull_histograms(results: Sequence[ModelResult]) -> list[HullHistogram]:
    """One histogram for each of these models of one run, all repeats together, and one for the data's own test split.

    The task `stability` must have been scored. The bins are chosen for all models.
    """
    found = [(result.method, result.requested, *_energies(result)) for result in results]
    edges = bin_edges(np.concatenate([energies for _, _, energies, _ in found]))
    own = split_energies(results)
    if own is not None:
        sure, unsure = own.e_above_hull, own.e_above_hull_not_converged
        energies = np.array([*sure, *unsure], dtype=np.float64)
        found.append((TEST_SPLIT, own.requested, energies, np.arange(len(energies)) < len(sure)))
    stable_below = float(task_protocols(results)["stability"]["stable_below_ev_per_atom"])
    return [HullHistogram.of(*crystals, edges, stable_below) for crystals in found]


def bin_edges(energies: FloatArray) -> FloatArray:
    """Edges in eV/atom, from few choices, so that figures of similar runs have the same ones.

    They reach the 90th percentile where it is below 4 eV/atom; what lies beyond is for the caller to count.
    """
    high, low = np.quantile(energies, [RIGHT_SHARE, 1 - LEFT_SHARE]) if len(energies) else (0.0, 0.0)
    right = next((edge for edge in RIGHT_EDGES if edge >= high), max(RIGHT_EDGES))
    left = next((edge for edge in LEFT_EDGES if edge <= low), min(LEFT_EDGES))
    width = RIGHT_EDGES[right]
    return np.asarray(np.arange(round(left / width), round(right / width) + 1) * width, dtype=np.float64)


def histograms_csv(dataset: str, histograms: Sequence[HullHistogram]) -> str:
    """One row per model and bin: from `low` to `high` (eV/atom), crystals, and their share of those asked for.

    An empty `low` or `high` is an open end; both empty, the crystals without an energy.
    """
    lines: list[list[object]] = []
    for histogram in histograms:
        edges = [f"{edge:.3f}" for edge in histogram.edges]
        counts = zip(edges, edges[1:], histogram.converged, histogram.unconverged, strict=False)
        rows = [(low, high, int(done + not_done), int(not_done)) for low, high, done, not_done in counts]
        outside = [("", edges[0], histogram.below), (edges[-1], "", histogram.above), ("", "", histogram.missing)]
        middle = histogram.median
        for low, high, number, not_done in [*rows, *((low, high, number, "") for low, high, number in outside)]:
            share = number / histogram.requested if histogram.requested else ""
            figures = [histogram.requested, middle.value, middle.low, middle.high]
            lines.append([dataset, histogram.method, low, high, number, not_done, share, *figures])
    return csv_text([*BIN_COLUMNS, *MODEL_COLUMNS], lines)


def _energies(result: ModelResult) -> tuple[FloatArray, BoolArray]:
    """Energies above hull of a model's crystals that have a finite one, and whether they converged."""
    energies, converged = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for batch in result.run.scan(result.model, "stability", ["e_above_hull", "converged"]):
        energies.append(batch.column("e_above_hull").to_numpy(zero_copy_only=False).astype(np.float64))
        converged.append(flags(batch.column("converged")))
    values = np.concatenate(energies)
    known = np.isfinite(values)
    return values[known], np.concatenate(converged)[known]
