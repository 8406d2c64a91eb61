"""Properties of crystals: density and number of elements, compared with the test split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.crystals import Crystals
from bench.interfaces import flags, task_rows, task_schema
from bench.statistics import EQUAL_WITHIN_ERRORS, RESAMPLES, Metric, emd, emd_floor, median

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

PROPERTIES = ("num_elements", "density")


@dataclass(frozen=True)
class Properties:
    """The task. Needs the table of `validity` for its summary."""

    name: str = "properties"
    needs: ClassVar[tuple[str, ...]] = ("validity",)

    @property
    def schema(self) -> pa.Schema:
        """Density in g/cm^3; num_elements: different ones."""
        return task_schema({"density": pa.float64(), "num_elements": pa.int64()})

    def protocol(self) -> dict[str, Any]:
        """Which crystals are compared with what, and how the interval is made."""
        return {
            "distance": "wasserstein",
            "crystals": "all valid ones",  # the published code draws 1000 of them, unseeded, and fails below 1000
            "against": "test split",
            "interval": {"bootstrap": RESAMPLES, "equal_within_errors": EQUAL_WITHIN_ERRORS},
        }

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal."""
        columns = {"density": crystals.densities, "num_elements": crystals.num_elements}
        return task_rows(self.schema, crystals, columns)

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Distances to the test split over valid crystals, their floors for as many, and the median density."""
        table = tables[self.name]
        valid = flags(tables["validity"]["valid"])
        seeds = np.random.SeedSequence(seed).generate_state(2 * len(PROPERTIES)).tolist()
        metrics = {}
        for name in PROPERTIES:
            train: NDArray[Any] = getattr(reference.train, name)
            test: NDArray[Any] = getattr(reference.test, name)
            values = table[name].to_numpy()[valid]
            metrics[f"emd_{name}"] = emd(values, test, seeds.pop())
            metrics[f"emd_{name}_floor"] = emd_floor(train, test, len(values), seeds.pop())
        return {**metrics, "median_density": median(table["density"].to_numpy()[valid])}
