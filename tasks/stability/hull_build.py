"""Computes a hull: the energies of all phases with one potential, in parts that a killed process leaves behind."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.crystals import Crystals
from tasks.stability.hull import Hull, energies_above
from tasks.stability.phases import Phases, read_phases
from tasks.stability.potentials import Potential, load_potential
from tasks.stability.relaxation import RelaxationSettings, relax

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], None]

PART = 500  # phases between two files: seconds of work
NEAR = 0.1  # eV/atom above the hull of single points, below which phases are relaxed
DECIMALS = 5
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def build(
    potential: str, out: Path, relax_limit: int | None = 0, workers: int = 2, on_progress: Progress | None = None
) -> str:
    """What stands behind `bench hull build`: the hull of all phases at hand, written into `out`; gives a line about it.

    relax_limit: phases near the hull to relax, None for all. Goes on where it was killed.
    """
    card = build_hull(read_phases(workers), load_potential(potential), out, None, relax_limit, workers, 0, on_progress)
    return (
        f"{out / Path(potential).name}.parquet: {card['phases']} phases, {card['relaxed']['phases']} of them relaxed, "
        f"SHA-256 {card['sha256'][:12]}; use it with BENCH_HULL_DIR={out}"
    )


def build_hull(
    phases: Phases,
    potential: Potential,
    out: Path,
    settings: RelaxationSettings | None = None,
    relax_limit: int | None = 0,
    workers: int = 1,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes <potential>.parquet and its card into the folder `out`; gives the card.

    Single points of all phases that the potential knows, then relaxations of those within NEAR of their hull: all for
    relax_limit None, else a random choice of so many. Finished parts lie in out/parts-<potential>, which may be deleted
    at the end; another call goes on from them. workers: processes of one thread each; more than one need a potential
    that `load_potential` gives by its name. on_progress: called with (phases done, in all).
    """
    settings = settings or RelaxationSettings()
    parts = Parts(potential, out / f"parts-{potential.name}", workers, on_progress)
    known = np.flatnonzero(_knows(potential, phases.crystals))
    crystals = phases.crystals[known]
    ids = [phases.ids[i] for i in known]
    formulas = [crystals.formula(b) for b in range(len(crystals))]
    points = parts.compute("points", ids, crystals, None)
    energies = points["energy_per_atom"].copy()
    chosen = _near(Hull(formulas, energies.copy(), {}), crystals, energies, relax_limit, seed)
    found = parts.compute("relaxed", [ids[b] for b in chosen], crystals[chosen], settings)
    good = found["converged"] > 0
    relaxed = np.zeros(len(crystals), dtype=bool)
    relaxed[chosen[good]] = True
    shifts = (found["energy_per_atom"] - energies[chosen])[good]
    energies[chosen[good]] += shifts
    card = {
        "potential": dict(potential.protocol()),
        "phases": len(crystals),
        "sources": {s: sum(phases.sources[i] == s for i in known) for s in sorted(set(phases.sources))},
        "left_out": len(phases.ids) - len(crystals),
        "geometry": f"single points at the given geometry; of the phases within {NEAR} eV/atom of their hull, "
        f"{relaxed.sum()} were relaxed",
        "relaxed": {
            "phases": int(relaxed.sum()),
            "all_near_hull": relax_limit is None,
            "not_converged": int((~good).sum()),
            "settings": settings.protocol(),
            "shift_ev_per_atom": _shift(shifts),
            "seconds": round(float(found["seconds"].sum()), 1),
        },
        "seconds": round(float(points["seconds"].sum()), 1),
        "versions": {package: version(package) for package in ("torch", "pymatgen", "numpy")},
    }
    _write(out, potential.name, ids, formulas, energies, relaxed, card)
    return card


def _knows(potential: Potential, crystals: Crystals) -> NDArray[np.bool_]:
    of_atom = np.isin(crystals.atomic_numbers, sorted(potential.elements))
    unknown = np.repeat(np.arange(len(crystals)), crystals.num_atoms)[~of_atom]
    return ~np.isin(np.arange(len(crystals)), unknown)


class Parts:
    """Energies of many crystals, PART at a time, each part in a file that a killed process leaves behind."""

    def __init__(self, potential: Potential, folder: Path, workers: int, on_progress: Progress | None) -> None:
        self.potential, self.folder, self.workers, self.on_progress = potential, folder, workers, on_progress

    def compute(
        self, name: str, ids: Sequence[str], crystals: Crystals, settings: RelaxationSettings | None
    ) -> dict[str, FloatArray]:
        """Columns energy_per_atom (eV), converged (0 or 1) and seconds. settings: None for single points."""
        import pyarrow.parquet as pq

        depends_on = [dict(self.potential.protocol()), settings and settings.protocol(), list(ids)]
        digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
        folder = self.folder / f"{name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, len(ids), PART)
        files = [folder / f"{start:07d}.parquet" for start in starts]
        missing = [(f, crystals[s : s + PART], settings) for f, s in zip(files, starts, strict=True) if not f.is_file()]
        done = len(ids) - sum(len(part) for _, part, _ in missing)
        for count in self._run(missing):
            done += count
            if self.on_progress is not None:
                self.on_progress(done, len(ids))
        tables = [pq.read_table(file) for file in files]
        columns = ("energy_per_atom", "converged", "seconds")
        return {c: np.concatenate([np.zeros(0), *(table[c].to_numpy() for table in tables)]) for c in columns}

    def _run(self, missing: Sequence[Job]) -> Iterator[int]:
        if self.workers == 1 or len(missing) <= 1:
            for job in missing:
                yield write_part(self.potential, *job)
            return
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # libraries read them when a process starts
        try:
            with ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn")) as pool:
                futures = [pool.submit(_write_part_by_name, self.potential.name, *job) for job in missing]
                for future in as_completed(futures):
                    yield future.result()
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


Job = tuple[Path, Crystals, RelaxationSettings | None]


def write_part(potential: Potential, file: Path, crystals: Crystals, settings: RelaxationSettings | None) -> int:
    """Computes one part and writes it; gives its number of crystals."""
    import pyarrow as pa

    began = time.perf_counter()
    columns = _points(potential, crystals) if settings is None else _relaxed(potential, crystals, settings)
    seconds = (time.perf_counter() - began) / len(crystals)
    _write_table(pa.table({**columns, "seconds": np.full(len(crystals), seconds)}), file)
    return len(crystals)


def _write_part_by_name(name: str, file: Path, crystals: Crystals, settings: RelaxationSettings | None) -> int:
    return write_part(load_potential(name), file, crystals, settings)


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
    return {"energy_per_atom": energies / crystals.num_atoms, "converged": np.ones(len(crystals))}


def _relaxed(potential: Potential, crystals: Crystals, settings: RelaxationSettings) -> dict[str, FloatArray]:
    outcomes = relax(crystals, potential, settings)
    energies = np.array([outcome.energy for outcome in outcomes]) / crystals.num_atoms
    converged = np.array([float(outcome.converged) for outcome in outcomes])
    return {"energy_per_atom": energies, "converged": converged}


def _near(hull: Hull, crystals: Crystals, energies: FloatArray, limit: int | None, seed: int) -> NDArray[np.int64]:
    """Places of phases within NEAR of the hull, ascending: all, or so many chosen at random."""
    near: list[int] = []
    for b in np.random.default_rng(seed).permutation(len(crystals)).tolist():
        if limit is not None and len(near) >= limit:
            break
        above = energies_above(hull, crystals[b], energies[b : b + 1])[0]
        if isinstance(above, float) and above <= NEAR:
            near.append(b)
    return np.sort(np.array(near, dtype=np.int64))


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
