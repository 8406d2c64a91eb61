"""Computes a hull: the energies of all phases with one potential, in parts that a killed process leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.crystals import Crystals
from tasks.stability.hull import Hull, energies_above
from tasks.stability.phases import Phases
from tasks.stability.potentials import Potential
from tasks.stability.relaxation import RelaxationSettings, relax

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], None]

PART = 500  # phases between two files: seconds of work
NEAR = 0.1  # eV/atom above the hull of single points, below which phases are relaxed
DECIMALS = 5


def build_hull(
    phases: Phases,
    potential: Potential,
    out: Path,
    settings: RelaxationSettings | None = None,
    relax_limit: int | None = 0,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes <potential>.parquet and its card into the folder `out`; gives the card.

    Single points of all phases that the potential knows, then relaxations of those within NEAR of their hull: all for
    relax_limit None, else a random choice of so many. Finished parts lie in out/parts-<potential> until the end, and a
    second call goes on from them. on_progress: called with (phases done, phases in all).
    """
    settings = settings or RelaxationSettings()
    weights = str(potential.protocol().get("sha256", ""))
    work = out / f"parts-{potential.name}"
    work.mkdir(parents=True, exist_ok=True)
    known = np.flatnonzero(_knows(potential, phases.crystals))
    crystals = phases.crystals[known]
    ids = [phases.ids[i] for i in known]
    formulas = [crystals.formula(b) for b in range(len(crystals))]
    points = _in_parts(
        work / f"points-{_digest(weights, ids)}",
        len(crystals),
        lambda part: _points(potential, crystals[part]),
        on_progress,
    )
    energies, seconds = points["energy_per_atom"], float(points["seconds"].sum())
    near = _near(formulas, energies, crystals, relax_limit)
    chosen = near if relax_limit is None else np.sort(np.random.default_rng(seed).permutation(near)[:relax_limit])
    shifts = np.zeros(0)
    relaxed = np.zeros(len(crystals), dtype=bool)
    relax_seconds = 0.0
    if len(chosen):
        name = _digest(weights, [ids[i] for i in chosen], json.dumps(settings.protocol()))
        found = _in_parts(
            work / f"relaxed-{name}",
            len(chosen),
            lambda part: _relaxed(potential, crystals[chosen[part]], settings),
            on_progress,
        )
        lower = np.isfinite(found["energy_per_atom"]) & found["converged"].astype(bool)
        shifts = (found["energy_per_atom"] - energies[chosen])[lower]
        energies = energies.copy()
        energies[chosen[lower]] = np.minimum(energies[chosen], found["energy_per_atom"])[lower]
        relaxed[chosen[lower]] = True
        relax_seconds = float(found["seconds"].sum())
    card = {
        "potential": dict(potential.protocol()),
        "phases": len(crystals),
        "sources": {s: sum(phases.sources[i] == s for i in known) for s in sorted(set(phases.sources))},
        "left_out": len(phases.ids) - len(crystals),
        "geometry": "single points at the given geometry; phases near the hull relaxed as far as `relaxed` says",
        "near_ev_per_atom": NEAR,
        "relaxed": {
            "phases": int(relaxed.sum()),
            "near_hull": None if len(near) == 0 else len(near),
            "settings": settings.protocol(),
            "shift_ev_per_atom": _shift(shifts),
            "seconds": round(relax_seconds, 1),
        },
        "seconds": round(seconds, 1),
        "versions": {package: version(package) for package in ("torch", "pymatgen", "numpy")},
    }
    _write(out, potential.name, ids, formulas, energies, relaxed, card)
    return card


def _knows(potential: Potential, crystals: Crystals) -> NDArray[np.bool_]:
    of_atom = np.isin(crystals.atomic_numbers, sorted(potential.elements))
    unknown = np.repeat(np.arange(len(crystals)), crystals.num_atoms)[~of_atom]
    return ~np.isin(np.arange(len(crystals)), unknown)


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _in_parts(
    folder: Path,
    count: int,
    compute: Callable[[NDArray[np.int64]], dict[str, FloatArray]],
    on_progress: Progress | None,
) -> dict[str, FloatArray]:
    """Columns over `count` places, computed PART at a time and kept; what is there already is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    columns: dict[str, list[FloatArray]] = {}
    for start in range(0, count, PART):
        part, file = np.arange(start, min(start + PART, count)), folder / f"{start:07d}.parquet"
        if not file.is_file():
            began = time.perf_counter()
            found = compute(part)
            found["seconds"] = np.full(len(part), (time.perf_counter() - began) / len(part))
            _write_table(pa.table(found), file)
        table = pq.read_table(file)
        for name in table.column_names:
            columns.setdefault(name, []).append(table[name].to_numpy())
        if on_progress is not None:
            on_progress(int(part[-1]) + 1, count)
    return {name: np.concatenate(values) for name, values in columns.items()}


def _points(potential: Potential, crystals: Crystals) -> dict[str, FloatArray]:
    energies = np.empty(len(crystals))
    batch: list[int] = []
    atoms = 0
    for b in np.argsort(crystals.num_atoms, kind="stable").tolist():
        if batch and atoms + crystals.num_atoms[b] > potential.batch_atoms:
            energies[batch] = potential.evaluate(crystals[batch], derivatives=False).energies
            batch, atoms = [], 0
        batch.append(b)
        atoms += int(crystals.num_atoms[b])
    energies[batch] = potential.evaluate(crystals[batch], derivatives=False).energies
    return {"energy_per_atom": energies / crystals.num_atoms}


def _relaxed(potential: Potential, crystals: Crystals, settings: RelaxationSettings) -> dict[str, FloatArray]:
    outcomes = relax(crystals, potential, settings)
    energies = np.array([outcome.energy for outcome in outcomes]) / crystals.num_atoms
    converged = np.array([float(outcome.converged) for outcome in outcomes])
    return {"energy_per_atom": energies, "converged": converged}


def _near(formulas: Sequence[str], energies: FloatArray, crystals: Crystals, limit: int | None) -> NDArray[np.int64]:
    """Places of phases within NEAR of the hull of all; not looked for where none is to be relaxed."""
    if limit == 0:
        return np.zeros(0, dtype=np.int64)
    above = energies_above(Hull(formulas, energies, {}), crystals, energies)
    return np.array([b for b, energy in enumerate(above) if not isinstance(energy, str) and energy <= NEAR], np.int64)


def _shift(shifts: FloatArray) -> dict[str, float] | None:
    """What relaxing changed, eV/atom."""
    if len(shifts) == 0:
        return None
    low, median, high = np.quantile(shifts, [0.05, 0.5, 0.95])
    return {"mean": float(shifts.mean()), "median": float(median), "q05": float(low), "q95": float(high)}


def _write(
    out: Path,
    name: str,
    ids: Sequence[str],
    formulas: Sequence[str],
    energies: FloatArray,
    relaxed: NDArray[np.bool_],
    card: dict[str, Any],
) -> None:
    import pyarrow as pa

    table = pa.table({"formula": formulas, "energy_per_atom": energies.round(DECIMALS), "id": ids, "relaxed": relaxed})
    path = out / f"{name}.parquet"
    _write_table(table, path)
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(card, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path.with_suffix(".json"))


def _write_table(table: pa.Table, path: Path) -> None:
    """A file that appears whole or not at all."""
    import pyarrow.parquet as pq

    temporary = path.with_suffix(".parquet.tmp")
    pq.write_table(table, temporary, compression="zstd", compression_level=19)
    os.replace(temporary, path)
