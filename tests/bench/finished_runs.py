"""Finished runs with stability by made-up energies and with relaxed crystals, as `bench.runner` leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.crystals import Crystals, FilteredCrystals
from bench.parquet import write_table
from bench.run_folder.shards import SampleFolder
from tests.toy_potential import rattled

PLACES = np.array([0, 2, 3, 4, 5, 6])  # of the crystals; the second of seven places has none
VALID = [True, False, True, True, True, False, True]
STABLE = [True, False, False, True, True, True, True]
UNIQUE = [True, False, True, True, False, True, True]
NOVEL = [True, False, True, False, True, None, True]
RELAXED = [0, 2, 3, 4, 6]  # of which the third could not be relaxed, nor could the sixth place's
COST = {"start_s": 0.0, "end_s": 1.0, "network_evaluations": 1.0, "steps": 1, "counted": True, "wall_s": 1.0}


def relaxed_of(crystals: Crystals) -> Crystals:
    """Crystals as if they had been relaxed: every cell 1 % longer, atoms moved a little."""
    moved = crystals.frac_coords + 0.01 * np.sin(np.arange(crystals.frac_coords.size)).reshape(-1, 3)
    return Crystals(crystals.num_atoms, crystals.atomic_numbers, moved, 1.01 * crystals.lattices)


def finished_run(
    root: Path,
    models: Sequence[str] = ("one",),
    tasks: Sequence[str] = ("validity", "stability", "novelty"),
    repeats: int = 1,
    relaxed: bool = True,
) -> Path:
    """Seven places of each model and repeat, six of them with crystals (`crystals_of`)."""
    potentials = {task: task.partition("-")[2] or "chgnet" for task in tasks if task.startswith("stability")}
    protocols = {task: {"potential": {"name": potentials[task]}} if task in potentials else {} for task in tasks}
    entry = {"batch_size": 7, "repeats": repeats, "kind": "generator"}
    manifest = {
        "format": 1,
        "dataset": "perov5",
        "seed": 0,
        "budget": {"num_samples": 7, "seconds": None},
        "protocol": {"tasks": protocols},
        "models": {model: dict(entry) for model in models},
    }
    root.mkdir()
    (root / "manifest.json").write_text(json.dumps(manifest))
    (root / "summary.json").write_text(json.dumps({"models": {model: {} for model in models}}))
    for number, model in enumerate(models):
        for repeat in range(repeats):
            place = root / model / f"repeat-{repeat}" if repeat else root / model
            _store(place, crystals_of(number, repeat), tasks, relaxed)
    return root


def crystals_of(model: int, repeat: int = 0) -> Crystals:
    """The six crystals of a model by its number."""
    return rattled(10 * model + repeat, 6)


def _store(place: Path, crystals: Crystals, tasks: Sequence[str], relaxed: bool) -> None:
    folder = SampleFolder(place, batch_size=7)
    folder.recover()
    folder.append(FilteredCrystals(crystals, PLACES, {1: "NaN"}), handed_over=7, **COST)
    (place / "state.json").write_text(json.dumps({"scoring_seconds": {}, "load_seconds": 0, "warmup_seconds": 0}))
    for task in tasks:
        reasons: list[str | None] = [None, "NaN", None, None, None, "the hull has no phase of Xe", None]
        columns: dict[str, Any] = {"validity": {"valid": VALID}, "novelty": {"unique": UNIQUE, "novel": NOVEL}}.get(
            task, {}
        )
        if task.startswith("stability"):
            stable = STABLE if task == "stability" else [not s for s in STABLE]
            columns = {
                "energy_per_atom": [-1.0] * 7,
                "e_above_hull": [0.05] * 7,
                "stable": stable,
                "stable_probability": [0.5] * 7,
                "converged": stable,
                "relax_steps": [3] * 7,
            }
            reasons[3] = "over-dense"
            if relaxed:
                _keep(place, task, crystals)
        table = pa.table({"index": np.arange(7), "formula": ["X"] * 7, **columns, "reason": reasons})
        write_table(place / f"{task}.parquet", table)


def _keep(place: Path, task: str, crystals: Crystals) -> None:
    """The relaxed crystals in two files, as two chunks leave them."""
    (place / "relaxed").mkdir(exist_ok=True)
    after = relaxed_of(crystals)
    for first, rows in ((0, RELAXED[:2]), (3, RELAXED[2:])):
        own = [int(np.flatnonzero(row == PLACES)[0]) for row in rows]
        arrays = [after.arrays(b) for b in own]
        table = pa.table(
            {
                "index": rows,
                "atomic_numbers": [numbers.tolist() for numbers, _, _ in arrays],
                "potential": ["chgnet"] * len(rows),
                "formation_energy_per_atom": [-0.5] * len(rows),
                "rmsd": [0.1] * len(rows),
                "volume_change": [0.03] * len(rows),
                "energy": [-4.0] * len(rows),
                "fmax": pa.array([None if row == 3 else 0.01 for row in rows], pa.float64()),
                "frac_coords": [coords.ravel().tolist() for _, coords, _ in arrays],
                "lattice": [lattice.ravel().tolist() for _, _, lattice in arrays],
            }
        )
        write_table(place / "relaxed" / f"{task}.{first:09d}.parquet", table)
