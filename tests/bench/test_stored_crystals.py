"""Tasks that compare crystals of a whole sample get the ones they ask for, wherever they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.crystals import Crystals, FilteredCrystals
from bench.run_folder.shards import SampleFolder
from bench.scoring.tables import crystals_of, finished, score_in_memory, stored_crystals

COST = {
    "start_s": 0.0,
    "end_s": 1.0,
    "handed_over": 4,
    "network_evaluations": 0.0,
    "steps": None,
    "counted": True,
    "wall_s": 1.0,
}


def sample(first: int) -> FilteredCrystals:
    """Four places, the second without a crystal; the others are cubic cells of one atom, the place its number."""
    numbers = np.array([first, first + 2, first + 3])
    cells = np.eye(3) * numbers[:, None, None]
    crystals = Crystals(np.ones(3, int), numbers, np.zeros((3, 3)), cells)
    return FilteredCrystals(crystals, np.array([0, 2, 3]), {1: "no crystal"})


def test_rows_are_found_in_any_shard_and_given_in_the_order_asked_for(tmp_path: Path) -> None:
    folder = SampleFolder(tmp_path, batch_size=4000)  # as large as a shard: each batch is one
    folder.samples.mkdir()
    for first in (1, 5, 9):
        folder.append(sample(first), **COST)
    assert len(list(folder.shards())) == 3
    rows = np.array([11, 0, 6, 2, 8])
    assert stored_crystals(folder, rows).atomic_numbers.tolist() == [12, 1, 7, 3, 9]
    assert len(stored_crystals(folder, np.zeros(0, dtype=np.int64))) == 0


def test_rows_of_crystals_in_memory_are_told_by_their_places() -> None:
    assert crystals_of(sample(1), np.array([3, 0])).atomic_numbers.tolist() == [4, 1]


class Pairs:
    """Marks each crystal with the atomic number of the last one: known only from all of them."""

    name = "pairs"
    schema = pa.schema([("index", pa.int64()), ("last", pa.int64())])

    def score(self, crystals: Crystals) -> pa.Table:
        return pa.table({"last": pa.array([None] * len(crystals), pa.int64())})

    def compare(self, table, crystals):
        last = int(crystals(np.array([table.num_rows - 1])).atomic_numbers[0])
        return table.set_column(1, "last", pa.array([last] * table.num_rows))


def test_a_task_may_see_crystals_of_the_whole_sample() -> None:
    assert score_in_memory([Pairs()], sample(1))["pairs"]["last"].to_pylist() == [4, 4, 4, 4]


def test_a_comparison_that_loses_rows_is_refused() -> None:
    class Loses(Pairs):
        def compare(self, table, crystals):
            return table.slice(1)

    with pytest.raises(ValueError, match="task pairs: finishing its table changed the rows"):
        finished(Loses(), pa.table({"index": [0, 1], "last": [1, 1]}), lambda rows: Crystals.empty())
