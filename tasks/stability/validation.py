"""How well energies above the hull by a potential agree with published DFT ones: the figures of docs/stability.md.

Run as `python -m tasks.stability.validation --potential chgnet --number 300`; needs the phases below BENCH_DATA_DIR.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.crystals import Crystals
from bench.datasets import load_properties, load_split
from tasks.stability.hull import Hull, energies_above, hull_path, read_hull, read_hull_ids
from tasks.stability.phases import phases_folder, read_phases
from tasks.stability.potentials import load_potential
from tasks.stability.relaxation import relax

FloatArray = NDArray[np.float64]

LINE = 0.1  # eV/atom
MAX_DFT = 0.5  # eV/atom above DFT's hull, of the phases that are compared


def agreement(computed: FloatArray, dft: FloatArray, line: float = LINE) -> dict[str, Any]:
    """Errors in eV/atom and the table of who calls what stable. A phase below the hull counts as on it, as with DFT."""
    ours = np.maximum(computed, 0.0)
    called, is_stable = ours < line, dft < line
    return {
        "crystals": len(dft),
        "mae": float(np.abs(ours - dft).mean()),
        "median_error": float(np.median(np.abs(ours - dft))),
        "bias": float((ours - dft).mean()),
        "agree": float((called == is_stable).mean()),
        "stable_by_both": int((called & is_stable).sum()),
        "stable_by_potential_only": int((called & ~is_stable).sum()),
        "stable_by_dft_only": int((~called & is_stable).sum()),
        "stable_by_neither": int((~called & ~is_stable).sum()),
    }


def relaxed_above(name: str, hull: Hull, crystals: Crystals) -> tuple[FloatArray, float, float]:
    """(B,) eV/atom above the hull after relaxing, NaN where there is none; seconds and steps of a crystal."""
    potential = load_potential(name)
    began = time.perf_counter()
    outcomes = relax(crystals, potential)
    seconds = (time.perf_counter() - began) / len(crystals)
    energies = np.array([outcome.energy for outcome in outcomes]) / crystals.num_atoms
    above = [np.nan if isinstance(e, str) else e for e in energies_above(hull, crystals, energies)]
    return np.array(above), seconds, float(np.mean([outcome.steps for outcome in outcomes]))


def held_out_phases(name: str, source: str, number: int, seed: int = 0) -> dict[str, Any]:
    """Phases of one source (mpts52, "mp20 test") against their DFT values, on a hull without any of them."""
    phases = read_phases()
    with gzip.open(phases_folder() / "mp_phases.csv.gz", "rt", encoding="utf-8", newline="") as file:
        dft = {row["material_id"]: float(row["e_above_hull"]) for row in csv.DictReader(file)}
    rows = [i for i, s in enumerate(phases.sources) if s == source and 0 <= dft.get(phases.ids[i], np.inf) <= MAX_DFT]
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:number])
    hull = without(name, [phases.ids[i] for i in chosen])
    crystals = phases.crystals[chosen]
    above, seconds, steps = relaxed_above(name, hull, crystals)
    published = np.array([dft[phases.ids[i]] for i in chosen])
    known = np.isfinite(above)
    return {
        **agreement(above[known], published[known]),
        "seconds_per_crystal": seconds,
        "steps": steps,
        "wrong_side_by_element": wrong_side(crystals[known], above[known], published[known]),
    }


def without(name: str, ids: Sequence[str]) -> Hull:
    """The hull of a potential without the phases of these ids."""
    path = hull_path(name)
    hull = read_hull(path)
    keep = ~np.isin(read_hull_ids(path), list(ids))
    formulas = [formula for formula, kept in zip(hull.formulas, keep, strict=True) if kept]
    return Hull(formulas, hull.energies[keep], hull.card)


def wrong_side(crystals: Crystals, above: FloatArray, dft: FloatArray) -> dict[str, str]:
    """Elements of the crystals that fall on the wrong side of the line more often than others, "wrong of all"."""
    wrong = (np.maximum(above, 0) < LINE) != (dft < LINE)
    everywhere: Counter[str] = Counter()
    among_wrong: Counter[str] = Counter()
    for structure, is_wrong in zip(crystals, wrong, strict=True):
        symbols = {str(element.symbol) for element in structure.composition.elements}
        everywhere.update(symbols)
        among_wrong.update(symbols if is_wrong else ())
    often = sorted(among_wrong, key=lambda s: -among_wrong[s] / everywhere[s])
    return {s: f"{among_wrong[s]} of {everywhere[s]}" for s in often if everywhere[s] >= 10}


def perovskites(name: str, number: int, seed: int = 0) -> dict[str, Any]:
    """Test crystals of Perov-5 against `heat_all`, an energy above DFT's hull of competing phases."""
    split = load_split("perov5", "test")
    heats = load_properties("perov5", "test", ["heat_all"])["heat_all"].to_numpy()
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split))[:number])
    above, seconds, steps = relaxed_above(name, read_hull(hull_path(name)), split[chosen])
    known = np.isfinite(above)
    return {
        **agreement(above[known], heats[chosen][known]),
        "pearson": float(np.corrcoef(above[known], heats[chosen][known])[0, 1]),
        "stable_rate": float((above[known] < LINE).mean()),
        "median": float(np.median(above[known])),
        "seconds_per_crystal": seconds,
        "steps": steps,
    }


def main() -> None:
    """Prints the comparisons as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--number", type=int, default=300)
    given = parser.parse_args()
    found = {
        "mpts52": held_out_phases(given.potential, "mpts52", given.number),
        "mp20 test": held_out_phases(given.potential, "mp20 test", given.number),
        "perov5 test": perovskites(given.potential, given.number),
    }
    json.dump({given.potential: found}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
