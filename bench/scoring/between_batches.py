"""Scoring each batch as soon as it is sampled, for a budget that pays for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.budget import MonotonicClock
from bench.crystals import Crystals
from bench.device import set_threads
from bench.interfaces import Task
from bench.run_folder.shards import SampleFolder
from bench.scoring.tables import Scorer, Stopwatch, chunks_and_parts


def rock_salt() -> Crystals:
    """One crystal that every potential knows and relaxes in a few steps."""
    return Crystals(
        num_atoms=np.array([2]),
        atomic_numbers=np.array([11, 17]),
        frac_coords=np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        lattices=2.8 * (np.ones((1, 3, 3)) - np.eye(3)),
    )


def scoring_between_batches(tasks: Sequence[Task], pool: Scorer, threads: int) -> Callable[[SampleFolder, int], float]:
    """Scores a batch of a folder, by its number, with all tasks and gives the wall-clock seconds.

    What the scoring processes load comes before. threads: of sampling, which goes on with them.
    """
    pool.warm_up(rock_salt())

    def score_one(folder: SampleFolder, number: int) -> float:
        set_threads(1)
        clock = MonotonicClock()
        clock.start()
        score_batch(tasks, folder, number, pool)
        seconds = clock.stop()
        set_threads(threads)
        return seconds

    return score_one


def score_batch(tasks: Sequence[Task], folder: SampleFolder, number: int, pool: Scorer) -> None:
    """Scores one batch with all tasks. `bench.scoring.tables` makes tables of the parts that it leaves."""
    for task in tasks:
        stopwatch = Stopwatch(folder.path, task.name)
        for _ in pool.score(task, list(zip(*chunks_and_parts(task, folder, number), strict=True))):
            pass
        stopwatch.lap(last=True)
