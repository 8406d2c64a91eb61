"""A metric of your own: the space group of each crystal, and how many crystals have any symmetry at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench.crystals import Crystals
from bench.interfaces import task_rows, task_schema
from bench.statistics import Metric, median, wilson

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard


@dataclass(frozen=True)  # plain data, because a task goes to worker processes
class SpaceGroups:
    """symprec: angstrom by which an atom may lie off its place."""

    name: str = "space_groups"  # the name of its entry point and of its table
    symprec: float = 0.1

    @property
    def schema(self) -> pa.Schema:
        """space_group: its number, 1 to 230; null where spglib finds none."""
        return task_schema({"space_group": pa.int64()})

    def protocol(self) -> dict[str, Any]:
        """All that the figures depend on: two runs with different ones never share a table."""
        return {"symprec": self.symprec, "spglib": version("spglib")}

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal, in order. What cannot be computed is null and has a reason."""
        numbers = [self._number(crystals, b) for b in range(len(crystals))]
        reasons = [None if number else "spglib finds no space group" for number in numbers]
        return task_rows(self.schema, crystals, {"space_group": numbers, "reason": reasons})

    def _number(self, crystals: Crystals, b: int) -> int | None:
        import spglib  # here, so that the harness starts quickly

        atomic_numbers, frac_coords, lattice = crystals.arrays(b)
        found = spglib.get_symmetry_dataset((lattice, frac_coords, atomic_numbers), symprec=self.symprec)
        return None if found is None else int(found.number)

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """The rate is over all crystals that were asked for: one that is not there counts against its model."""
        found = tables[self.name]["space_group"]
        numbers = found.drop_null().to_numpy()
        return {
            "symmetric_rate": wilson(int(np.count_nonzero(numbers > 1)), len(found)),  # with a 95 % interval
            "space_group_median": median(numbers),
        }
