"""Relaxed crystals as a table: energy, force, steps and geometry of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.arrays import IntArray
from bench.crystals import Crystals
from tasks.stability.chain import Verdict
from tasks.stability.hull import Hull, composition_of
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


def kept_table(
    crystals: Crystals, places: IntArray, verdicts: Sequence[Verdict], hulls: Mapping[str, Hull | None]
) -> pa.Table:
    """What the run folder keeps: `relaxed_table` of the crystals at these places, each beside what it came from.

    energy_per_atom, formation_energy_per_atom: eV/atom, the latter against the elements in the hull of the potential
    that gave the verdict, null without one. rmsd: A (`displacement`). volume_change: share of the volume as generated.
    Both are null where it could not be relaxed: the geometry is then a stand-in's (`Relaxed`).
    """
    import pyarrow as pa

    outcomes = [verdict.relaxed for verdict in verdicts]
    given = [crystals[int(b)] for b in places]
    per_atom = [o.energy / len(c.atomic_numbers) for o, c in zip(outcomes, given, strict=True)]
    formed = [_formation(hulls[v.potential], c, e) for v, c, e in zip(verdicts, given, per_atom, strict=True)]
    moves = [_moves(c, o) if np.isfinite(o.fmax) else (None, None) for o, c in zip(outcomes, given, strict=True)]
    columns = {
        "index": pa.array(places, pa.int64()),
        "formula": pa.array([c.formula(0) for c in given], pa.string()),
        "atomic_numbers": pa.array([c.atomic_numbers.tolist() for c in given], pa.list_(pa.int64())),
        "potential": pa.array([verdict.potential for verdict in verdicts], pa.string()),
        "energy_per_atom": _numbers(per_atom),
        "formation_energy_per_atom": _numbers(formed),
        "rmsd": _numbers([rmsd for rmsd, _ in moves]),
        "volume_change": _numbers([change for _, change in moves]),
    }
    own = relaxed_table(outcomes)
    return pa.table({**columns, **{name: own[name] for name in own.column_names}})


def displacement(given: Crystals, relaxed: Relaxed) -> float:
    """Root mean square over atoms of how far they moved, A in the relaxed cell. Their common drift is no motion."""
    moved = relaxed.frac_coords - given.frac_coords
    moved = moved - np.round(moved)
    return float(np.sqrt((((moved - moved.mean(axis=0)) @ relaxed.lattice) ** 2).sum(axis=1).mean()))


def _moves(given: Crystals, relaxed: Relaxed) -> tuple[float, float]:
    """Displacement, and change of volume as a share."""
    volumes = abs(np.linalg.det(relaxed.lattice)), abs(np.linalg.det(given.lattices[0]))
    return displacement(given, relaxed), float(volumes[0] / volumes[1] - 1)


def _formation(hull: Hull | None, crystal: Crystals, energy_per_atom: float) -> float | None:
    if hull is None:
        return None
    amounts = composition_of(crystal, 0)
    if not set(amounts) <= hull.elements:
        return None
    corrected = energy_per_atom + (0.0 if hull.correction is None else float(hull.correction(crystal)[0]))
    lowest = {symbol: min(hull.lowest[frozenset([symbol])].values()) for symbol in amounts}
    return corrected - sum(lowest[s] * amount for s, amount in amounts.items()) / sum(amounts.values())


def _numbers(values: Sequence[float | None]) -> pa.Array:
    import pyarrow as pa

    return pa.array([v if v is not None and np.isfinite(v) else None for v in values], pa.float64())
