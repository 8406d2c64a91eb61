"""How often the 95 % intervals of the tasks' metrics hold what they claim: samples drawn from stored crystals.

`python -m tests.tasks.interval_coverage [DRAWS]` prints the table of docs/metrics.md; it needs MP-20's training split.
The pool is 1000 crystals of CrysLDM on MP-20. A sample is drawn from it with replacement, so that the pool is all that
the generator can make. Coverage is measured against 1000 test crystals.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from bench.crystals import FilteredCrystals
from bench.datasets import reference_card
from bench.scoring.tables import score_in_memory
from bench.statistics import Metric
from bench.store import Run
from tasks.coverage.split_fingerprints import SplitFingerprints, split_fingerprints
from tasks.coverage.task import Coverage
from tasks.distribution import Distribution
from tasks.memorisation import Memorisation
from tasks.stability.consensus import consensus
from tasks.symmetry import Symmetry
from tasks.validity import Validity
from tests.stored_samples import RUNS, stored

TASKS: tuple[Any, ...] = (Validity(), Symmetry("mp20"), Distribution("mp20"), Memorisation("mp20"), Coverage("mp20"))
OF_PAIRS = ("structure_diversity", "composition_diversity", "continuous_uniqueness", "continuous_sun")
TEST_CRYSTALS = 1000
Tables = Mapping[str, pa.Table]


@dataclass(frozen=True)
class Coverages:
    """Of one metric: its mean over samples, the whole pool's value, and the shares of intervals that hold either."""

    mean: float
    pool: float
    of_mean: float
    of_pool: float


def pool(count: int = 1000) -> Tables:
    """The rows of the tasks for the first crystals, and stored energies; two more potentials are the first with noise.

    The second and third potential differ from the stored one by 0.03 eV/atom.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tables = score_in_memory(list(TASKS), FilteredCrystals.complete(stored("mp20", "crysldm")[:count]))
    stability = Run.open(RUNS / "mp20.zip").task_table("crysldm", "stability").slice(0, count)
    energies = stability["e_above_hull"].fill_null(np.inf).to_numpy()
    rng = np.random.default_rng(0)
    tables["stability"] = stability
    for name in ("stability-second", "stability-third"):
        tables[name] = pa.table({"stable": energies + rng.normal(0, 0.03, count) < 0.1})
    return tables


def figures(tables: Tables, seed: int) -> dict[str, Metric]:
    """All metrics with an interval."""
    found: dict[str, Metric] = {}
    for task in TASKS[1:]:
        found |= task.summary(tables, reference_card("mp20"), seed)
    found |= consensus(tables, "stability")
    return {name: metric for name, metric in found.items() if metric.has_interval and "_floor" not in name}


def simulate(tables: Tables, n: int, draws: int, seed: int = 0) -> dict[str, Coverages]:
    """Coverages of each metric over some samples of n rows of the pool."""
    size = tables["validity"].num_rows
    rng = np.random.default_rng(seed)
    some = split_fingerprints("mp20")
    rows = np.linspace(0, len(some.structure) - 1, TEST_CRYSTALS).round().astype(int)
    split = SplitFingerprints(some.structure[rows], some.composition[rows], TEST_CRYSTALS)
    with (
        patch("tasks.coverage.task.split_fingerprints", lambda dataset: split),
        patch("tasks.memorisation._test_distances", lambda dataset: None),
    ):
        whole = figures(tables, 0)
        samples = []
        for draw in range(draws):
            chosen = pa.array(rng.integers(size, size=n))
            samples.append(figures({name: table.take(chosen) for name, table in tables.items()}, draw))
    found = {}
    for name, of_pool in whole.items():
        metrics = [sample[name] for sample in samples if name in sample]
        truth = of_pool.value * ((size - 1) / size if name in OF_PAIRS else 1.0)  # a crystal may be drawn twice
        mean = float(np.mean([metric.value for metric in metrics]))
        held = [np.mean([metric.low <= value <= metric.high for metric in metrics]) for value in (mean, truth)]
        found[name] = Coverages(mean, truth, *map(float, held))
    return found


def main(draws: int) -> None:
    """Prints the table."""
    tables = pool()
    for n in (200, 1000):
        for name, found in simulate(tables, n, draws).items():
            shares = " | ".join(f"{100 * share:.0f}" for share in (found.of_mean, found.of_pool))
            print(f"| {n} | `{name}` | {found.mean:.3f} | {found.pool:.3f} | {shares} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
