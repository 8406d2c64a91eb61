"""How the crystals of a stored run are distributed, read shard by shard, so that a run of any size can be shown."""

from __future__ import annotations

import numpy as np

from bench.arrays import BoolArray, IntArray
from bench.crystals import Crystals
from bench.datasets import CrystalCounts
from bench.interfaces import flags
from reports.run_results import ModelResult


def model_counts(result: ModelResult) -> CrystalCounts:
    """Counts over the valid crystals of a model, all repeats together; over all of its crystals without validity."""
    run, model = result.run, result.model
    scored = run.has_table(model, "validity")
    total = CrystalCounts.of(Crystals.empty())
    for repeat, folder in enumerate(run.folders(model)):
        wanted = np.ones(folder.counted, dtype=bool)
        if scored:
            wanted = flag(result, "validity", "valid", repeat)[: folder.counted]
        for _, crystals in folder.existing(wanted):
            total += CrystalCounts.of(crystals)
    return total


def stored_crystals(result: ModelResult, repeat: int, rows: IntArray) -> dict[int, Crystals]:
    """Row -> its crystal, as it was sampled, for those of some rows of a repeat that exist."""
    found: dict[int, Crystals] = {}
    for shard in result.run.folders(result.model)[repeat].shards():
        inside = rows[(rows >= shard.first_row) & (rows < shard.first_row + shard.num_rows)]
        if len(inside):
            filtered = shard.read()
            places = {int(row) + shard.first_row: place for place, row in enumerate(filtered.indices)}
            found |= {int(row): filtered.crystals[places[int(row)]] for row in inside if int(row) in places}
    return found


def flag(result: ModelResult, task: str, column: str, repeat: int) -> BoolArray:
    """(n,) a boolean column of a task's table; what is not known is not true."""
    table = result.run.task_table(result.model, task, repeat, [column])
    return flags(table[column])
