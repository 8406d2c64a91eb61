"""Symmetry of crystals as generated: space groups at two tolerances, and their distance to the test split's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench.crystals import Crystals
from bench.interfaces import task_rows, task_schema
from bench.statistics import RESAMPLES, Metric, jensen_shannon, jensen_shannon_floor, wilson
from tasks.space_groups import (
    MOST,
    TOLERANCES_ANGSTROM,
    crystal_systems,
    space_group_counts,
    space_group_number,
)

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

COLUMNS = dict(zip(("space_group", "space_group_tight"), TOLERANCES_ANGSTROM, strict=True))


@dataclass(frozen=True)
class Symmetry:
    """The task. dataset: whose test split the space groups are compared with."""

    dataset: str
    name: str = "symmetry"

    @property
    def schema(self) -> pa.Schema:
        """space_group: its number at a tolerance of 0.1 A; space_group_tight: at 0.01 A; null where there is none."""
        return task_schema(dict.fromkeys(COLUMNS, pa.int64()))

    def protocol(self) -> dict[str, Any]:
        """Spglib's version, the tolerances, and what is compared with what."""
        reference = space_group_counts(self.dataset)
        return {
            "spglib": version("spglib"),
            "symprec_angstrom": COLUMNS,
            "crystals": "as generated, all that have a space group",
            "distance": "jensen-shannon, base 2, at the larger tolerance",
            "against": "test split",
            "interval": {"shares": "wilson", "distances": "jackknife"},
            "floor": {"draws": RESAMPLES},
            "reference": None if reference is None else reference.sha256,
        }

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal."""
        columns: dict[str, list[Any]] = {
            name: [space_group_number(crystals, b, symprec) for b in range(len(crystals))]
            for name, symprec in COLUMNS.items()
        }
        columns["reason"] = [
            "; ".join(
                f"spglib finds no space group at {symprec:g} A"
                for (name, symprec) in COLUMNS.items()
                if columns[name][b] is None
            )
            or None
            for b in range(len(crystals))
        ]
        return task_rows(self.schema, crystals, columns)

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Share of P1 among the crystals that have a space group, and distances to the test split with their floors.

        Beside the shares those of the test split. Without a value where the package of the data set does not know the
        space groups of its splits.
        """
        groups, tight = (tables[self.name][name].drop_null().to_numpy() for name in COLUMNS)
        metrics = {
            "p1_share": wilson(int((groups == 1).sum()), len(groups)),
            "p1_share_tight": wilson(int((tight == 1).sum()), len(tight)),
        }
        known = space_group_counts(self.dataset)
        if known is not None:  # of the whole split, so without an interval
            for name, own in (("p1_share_test", known.test), ("p1_share_tight_test", known.test_tight)):
                metrics[name] = Metric(own[1] / own.sum(), n=int(own.sum()))
        counts = np.bincount(groups, minlength=MOST + 1)
        seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        for name, of in (("space_group", lambda numbers: numbers), ("crystal_system", crystal_systems)):
            if known is None:
                metrics |= {f"js_{name}": Metric(None), f"js_{name}_floor": Metric(None)}
                continue
            own = of(counts)
            metrics[f"js_{name}"] = jensen_shannon(np.eye(len(own), dtype=np.int64), of(known.test), own)
            floor = jensen_shannon_floor(of(known.train), of(known.test), len(groups), seeds.pop())
            metrics[f"js_{name}_floor"] = floor
        return metrics
