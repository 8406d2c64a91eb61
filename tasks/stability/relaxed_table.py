"""Relaxed crystals as a table: energy, force, steps and geometry of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.stability.relaxation import Relaxed

if TYPE_CHECKING:
    import pyarrow as pa


def relaxed_table(outcomes: Sequence[Relaxed]) -> pa.Table:
    """One row per crystal. energy: eV per cell. fmax: eV/A, null where unknown. Geometry: rows one after the other."""
    import pyarrow as pa

    return pa.table(
        {
            "energy": pa.array([o.energy for o in outcomes], pa.float64()),
            "converged": pa.array([o.converged for o in outcomes], pa.bool_()),
            "relax_steps": pa.array([o.steps for o in outcomes], pa.int64()),
            "fmax": pa.array([o.fmax if np.isfinite(o.fmax) else None for o in outcomes], pa.float64()),
            "frac_coords": pa.array([o.frac_coords.ravel().tolist() for o in outcomes], pa.list_(pa.float64())),
            "lattice": pa.array([o.lattice.ravel().tolist() for o in outcomes], pa.list_(pa.float64())),
            "reason": pa.array([o.reason for o in outcomes], pa.string()),
        }
    )


def read_relaxed(table: pa.Table) -> list[Relaxed]:
    """The outcomes that `relaxed_table` wrote."""
    return [
        Relaxed(
            row["energy"],
            np.array(row["frac_coords"], dtype=np.float64).reshape(-1, 3),
            np.array(row["lattice"], dtype=np.float64).reshape(3, 3),
            row["converged"],
            row["relax_steps"],
            np.inf if row["fmax"] is None else row["fmax"],
            row["reason"],
        )
        for row in table.to_pylist()
    ]
