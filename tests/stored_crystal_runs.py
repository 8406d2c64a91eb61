"""Finished runs with crystals: samples, task tables and ledger, as `bench.runner` leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.crystals import Crystals, FilteredCrystals
from bench.parquet import write_table
from bench.store import Run

TASKS = ("validity", "properties", "stability", "novelty")


def perovskites(count: int, seed: int = 0, sites: Sequence[int] = (38, 22, 8, 8, 8)) -> Crystals:
    """Cubic cells of 3.7 to 4.3 A with these elements on the five sites."""
    rng = np.random.default_rng(seed)
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Crystals(
        num_atoms=np.full(count, 5),
        atomic_numbers=np.tile(sites, count),
        frac_coords=np.tile(np.array(places, dtype=float), (count, 1)),
        lattices=rng.uniform(3.7, 4.3, (count, 1, 1)) * np.eye(3),
    )


def store(
    folder: Path,
    model: str,
    crystals: Crystals,
    energies: Sequence[float | None] | None = None,
    batch: int = 10,
    repeat: int = 0,
    costs: bool = True,
) -> None:
    """Writes a model's samples, its tables and its ledger. energies: above hull; None where nothing was relaxed.

    All crystals are valid and unique; every second one is new.
    """
    run = Run.open(folder)
    samples = run.folders(model)[repeat]
    samples.samples.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(crystals), batch):
        own = crystals[start : start + batch]
        samples.append(
            FilteredCrystals.complete(own),
            start_s=0.1 * start if costs else None,
            end_s=0.1 * (start + len(own)) if costs else None,
            handed_over=len(own),
            network_evaluations=40.0 * len(own) if costs else None,
            steps=20,
            counted=True,
            wall_s=1.0,
        )
    n = len(crystals)
    new = [place % 2 == 0 for place in range(n)]
    tables: dict[str, dict[str, Any]] = {
        "validity": {"valid": [True] * n},
        "novelty": {"unique": [True] * n, "novel": new},
    }
    ledger = {"requested": n, "generated": n, "parsed": n, "valid": n, "unique": n, "novel": sum(new)}
    if energies is not None:
        known = [energy is not None for energy in energies]
        stable = [energy is not None and energy < 0.1 for energy in energies]
        tables["stability"] = {
            "e_above_hull": pa.array(energies, pa.float64()),
            "stable": stable,
            "converged": known,
        }
        ledger |= {"relaxed": sum(known), "converged": sum(known), "stable": sum(stable)}
    for task, columns in tables.items():
        write_table(samples.path / f"{task}.parquet", pa.table({"index": np.arange(n), **columns}))
    summary = json.loads((folder / "summary.json").read_text())
    summary["models"][model]["ledger"] = {**ledger, "reasons": {}}
    (folder / "summary.json").write_text(json.dumps(summary))


def whole_run(make_run: Callable[..., Path], models: Mapping[str, Sequence[float | None]], **changes: Any) -> Path:
    """A run of perovskites whose models have these energies above hull, one crystal for each."""
    sizes = {
        model: {
            "n": len(energies),
            "valid": len(energies),
            "stable": sum(energy is not None and energy < 0.1 for energy in energies),
            "evaluations": 40.0,
        }
        for model, energies in models.items()
    }
    folder = make_run(sizes, **{"tasks": TASKS, **changes})
    for seed, (model, energies) in enumerate(models.items()):
        store(folder, model, perovskites(len(energies), seed), energies)
    return folder
