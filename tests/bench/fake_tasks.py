"""Tasks for the tests of the harness: quick, and with columns of the real ones."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from fake_generators import die_once

from bench.crystals import Crystals
from bench.interfaces import task_schema
from bench.statistics import Metric, wilson


@dataclass(frozen=True)
class FakeValidity:
    """Valid is a volume above 64 A^3. Has no `finish`. FAKE_TASK_VERSION changes its protocol."""

    name: str = "validity"

    @property
    def schema(self) -> pa.Schema:
        return task_schema({"valid": pa.bool_(), "volume": pa.float64()})

    def protocol(self) -> dict[str, Any]:
        return {"version": os.environ.get("FAKE_TASK_VERSION", "1"), "limits": (64.0,)}

    def score(self, crystals: Crystals) -> pa.Table:
        time.sleep(float(os.environ.get("FAKE_SCORE_SECONDS", "0")))
        valid = crystals.volumes > 64
        return pa.table(
            {
                "formula": pa.array([str(z) for z in crystals.atomic_numbers[crystals.offsets[:-1]]], pa.string()),
                "valid": valid,
                "volume": crystals.volumes,
                "reason": pa.array([None if v else "volume too small" for v in valid], pa.string()),
            }
        )

    def renewed(self, table: pa.Table, protocol: Mapping[str, Any]) -> pa.Table:
        if protocol["version"] == "other volumes":
            raise ValueError("its volumes are others")
        return table

    def summary(self, tables: Mapping[str, pa.Table], reference: Any, seed: int) -> dict[str, Metric]:
        valid = np.asarray(tables[self.name]["valid"].to_numpy(zero_copy_only=False), dtype=bool)
        return {"valid": wilson(int(valid.sum()), len(valid))}


class DyingValidity(FakeValidity):
    """FakeValidity, but the first process to score a chunk is killed in it."""

    def score(self, crystals: Crystals) -> pa.Table:
        die_once()
        return super().score(crystals)


@dataclass(frozen=True)
class FakeNovelty:
    """Unique is the first crystal of its first element: known when all rows are there."""

    name: str = "novelty"

    @property
    def schema(self) -> pa.Schema:
        return task_schema({"unique": pa.bool_(), "novel": pa.bool_()})

    def protocol(self) -> dict[str, Any]:
        return {}

    def score(self, crystals: Crystals) -> pa.Table:
        formulas = [str(z) for z in crystals.atomic_numbers[crystals.offsets[:-1]]]
        nothing = [None] * len(crystals)
        return pa.table(
            {
                "formula": pa.array(formulas, pa.string()),
                "unique": pa.array(nothing, pa.bool_()),
                "novel": pa.array(nothing, pa.bool_()),
                "reason": pa.array(nothing, pa.string()),
            }
        )

    def finish(self, table: pa.Table) -> pa.Table:
        seen: set[str | None] = {None}
        unique = []
        for formula in table["formula"].to_pylist():
            unique.append(formula not in seen)
            seen.add(formula)
        return table.set_column(table.schema.get_field_index("unique"), "unique", pa.array(unique))

    def summary(self, tables: Mapping[str, pa.Table], reference: Any, seed: int) -> dict[str, Metric]:
        unique = np.asarray(tables[self.name]["unique"].to_numpy(zero_copy_only=False), dtype=bool)
        return {"unique_rate": wilson(int(unique.sum()), len(unique))}
