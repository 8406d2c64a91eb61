"""Computes a hull: the energies of all phases with one potential, in parts that a killed process leaves behind."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.atomic import replacement, write_json
from bench.crystals import Crystals
from bench.device import one_thread_for_new_processes
from tasks.stability.chain import chain_names
from tasks.stability.hull import Hull, energies_above, hull_path, read_hull
from tasks.stability.hull.phases import Phases, read_phases
from tasks.stability.potentials import Potential, load_potential
from tasks.stability.relaxation import RelaxationSettings, relax

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[str, int, int], None]

PART = 500  # phases between two files: seconds of work
NEAR = 0.1  # eV/atom above the hull of single points, below which phases are relaxed
SAMPLE = 200  # of the phases near the hull that a limit leaves out
DECIMALS = 5


def build(
    potential: str,
    out: Path,
    relax_limit: int | None = None,
    extend: bool = False,
    workers: int = 2,
    on_progress: Progress | None = None,
) -> str:
    """What stands behind `bench hull build`: the hull of all phases at hand, written into `out`; gives a line about it.

    relax_limit: phases to relax, those nearest to the hull first; None for all near it. extend: take over what the hull
    at hand (`hull_path`) has computed already. Goes on where it was killed.
    """
    if len(names := chain_names(potential)) > 1:
        raise ValueError(
            f"--potential {potential}: a hull is of one potential; build those of {' and '.join(names)}, one by one"
        )
    known = KnownEnergies.of(hull_path(potential)) if extend else None
    loaded = load_potential(potential)
    card = build_hull(read_phases(workers), loaded, out, None, relax_limit, workers, known, on_progress)
    return (
        f"{out / Path(potential).name}.parquet: {card['phases']} phases, {card['relaxed']['phases']} of "
        f"{card['relaxed']['near_hull']} near the hull relaxed, SHA-256 {card['sha256'][:12]}; "
        f"use it with BENCH_HULL_DIR={out}"
    )


@dataclass(frozen=True)
class KnownEnergies:
    """What an earlier hull knows by id, in eV/atom: of the given geometry, and of the relaxed one."""

    card: dict[str, Any]
    points: dict[str, float]
    relaxed: dict[str, float]

    @classmethod
    def of(cls, path: Path | Traversable) -> KnownEnergies:
        """Read from the files of a hull. ValueError where they cannot be read or do not belong together."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        card = dict(read_hull(path).card)
        table = pq.read_table(pa.BufferReader(path.read_bytes())).to_pydict()
        rows = list(zip(table["id"], table["single_point"], table["energy_per_atom"], table["relaxed"], strict=True))
        return cls(card, {i: point for i, point, _, _ in rows}, {i: e for i, _, e, done in rows if done})

    def require(self, potential: Potential, settings: RelaxationSettings) -> None:
        """ValueError where these energies are of other weights, another package or other relaxations."""
        for what, here, there in (
            ("potential", dict(potential.protocol()), self.card["potential"]),
            ("relaxation", settings.protocol(), self.card["relaxed"]["settings"]),
        ):
            if here != there:
                raise ValueError(f"the hull to be extended has another {what} ({there}, here {here}); build it afresh")


def build_hull(
    phases: Phases,
    potential: Potential,
    out: Path,
    settings: RelaxationSettings | None = None,
    relax_limit: int | None = 0,
    workers: int = 1,
    known: KnownEnergies | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes <potential>.parquet and its card into the folder `out`; gives the card.

    Single points of all phases that the potential has elements for, then relaxations of those within NEAR of their
    hull, the nearest first: all for relax_limit None. With a limit above 0, SAMPLE of the others, drawn at random, are
    relaxed too: how far they fall says what the limit costs. Finished parts lie in out/parts-<potential>, which may be
    deleted at the end; another call, also with a larger limit, goes on from them. workers: processes of one thread
    each; more than one need a potential that `load_potential` gives by its name. on_progress: called with (stage,
    phases done, in all).
    """
    settings = settings or RelaxationSettings()
    if known is not None:
        known.require(potential, settings)
    parts = Parts(potential, out / f"parts-{potential.name}", workers, on_progress)
    of_elements = np.flatnonzero(_has_elements(potential, phases.crystals))
    crystals = phases.crystals[of_elements]
    ids = [phases.ids[i] for i in of_elements]
    formulas = [crystals.formula(b) for b in range(len(crystals))]

    def energies_of(name: str, places: IntArray, given: RelaxationSettings | None) -> Computed:
        taken = {} if known is None else known.points if given is None else known.relaxed
        return parts.compute(name, [ids[b] for b in places], crystals[places], given, taken)

    points = energies_of("points", np.arange(len(crystals)), None)
    near, above = _near(Hull(formulas, points.energies, {}), crystals, points.energies)
    count = len(near) if relax_limit is None else min(relax_limit, len(near))
    nearest = energies_of("relaxed", near[:count], settings)
    drawn = np.sort(np.random.default_rng(0).permutation(near[count:])[: SAMPLE if count else 0])
    others = energies_of("sample", drawn, settings)
    energies, relaxed = points.energies.copy(), np.zeros(len(crystals), dtype=bool)
    for places, found in ((near[:count], nearest), (drawn, others)):
        energies[places[found.converged]] = found.energies[found.converged]
        relaxed[places[found.converged]] = True
    card = {
        "potential": dict(potential.protocol()),
        "phases": len(crystals),
        "sources": {s: sum(phases.sources[i] == s for i in of_elements) for s in sorted(set(phases.sources))},
        "left_out": len(phases.ids) - len(crystals),
        "geometry": f"relaxed: {relaxed.sum()} of the {len(near)} phases within {NEAR} eV/atom of the hull of single "
        "points; the others as given",
        "relaxed": {
            "phases": int(relaxed.sum()),
            "near_hull": len(near),
            "all_below_ev_per_atom": NEAR if count == len(near) else float(above[count]),
            "on_hull": int((above == 0).sum()),
            "on_hull_relaxed": int(relaxed[near[above == 0]].sum()),
            "not_converged": int((~nearest.converged).sum() + (~others.converged).sum()),
            "settings": settings.protocol(),
            "shift_ev_per_atom": _shift(nearest, points.energies[near[:count]]),
            "shift_of_the_others_ev_per_atom": _shift(others, points.energies[drawn]),
            "seconds": round(nearest.seconds + others.seconds + (known.card["relaxed"]["seconds"] if known else 0), 1),
        },
        "seconds": round(points.seconds + (known.card["seconds"] if known else 0), 1),
        "versions": {package: version(package) for package in ("torch", "pymatgen", "numpy")},
    }
    _write(out, potential.name, ids, formulas, energies, points.energies, relaxed, card)
    return card


@dataclass(frozen=True)
class Computed:
    """Energies (P,) in eV/atom, converged (P,), and the seconds that computing them took, not of those known before."""

    energies: FloatArray
    converged: BoolArray
    seconds: float


def _has_elements(potential: Potential, crystals: Crystals) -> BoolArray:
    of_atom = np.isin(crystals.atomic_numbers, sorted(potential.elements))
    unknown = np.repeat(np.arange(len(crystals)), crystals.num_atoms)[~of_atom]
    return ~np.isin(np.arange(len(crystals)), unknown)


class Parts:
    """Energies of many crystals, PART at a time, each part in a file that a killed process leaves behind."""

    def __init__(self, potential: Potential, folder: Path, workers: int, on_progress: Progress | None) -> None:
        self.potential, self.folder, self.workers, self.on_progress = potential, folder, workers, on_progress

    def compute(
        self,
        name: str,
        ids: Sequence[str],
        crystals: Crystals,
        settings: RelaxationSettings | None,
        known: Mapping[str, float],
    ) -> Computed:
        """Energies of the phases, relaxed with the settings or, for None, as they are; known ones are taken over."""
        import pyarrow.parquet as pq

        energies = np.array([known.get(i, np.nan) for i in ids])
        open_places = np.flatnonzero(np.isnan(energies))
        converged, seconds = ~np.isnan(energies), 0.0
        places = [open_places[start : start + PART] for start in range(0, len(open_places), PART)]
        files = [self._file(name, [ids[b] for b in part], settings) for part in places]
        missing = [(f, crystals[p], settings) for f, p in zip(files, places, strict=True) if not f.is_file()]
        done = len(ids) - sum(len(part) for _, part, _ in missing)
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in self._run(missing):
            done += number
            if self.on_progress is not None:
                self.on_progress(name, done, len(ids))
        for file, part in zip(files, places, strict=True):
            table = pq.read_table(file)
            energies[part] = table["energy_per_atom"].to_numpy()
            converged[part] = table["converged"].to_numpy() > 0
            seconds += float(table["seconds"].to_numpy().sum())
        return Computed(energies, converged, seconds)

    def _file(self, name: str, ids: Sequence[str], settings: RelaxationSettings | None) -> Path:
        """The file of a part: another one for other phases, weights or settings."""
        depends_on = [dict(self.potential.protocol()), settings and settings.protocol(), list(ids)]
        digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
        return self.folder / f"{name}-{digest}.parquet"

    def _run(self, missing: Sequence[Job]) -> Iterator[int]:
        if self.workers == 1 or len(missing) <= 1:
            for job in missing:
                yield write_part(self.potential, *job)
            return
        spawn = multiprocessing.get_context("spawn")
        with one_thread_for_new_processes(), ProcessPoolExecutor(self.workers, spawn) as pool:
            futures = [pool.submit(_write_part_by_name, self.potential.name, *job) for job in missing]
            for future in as_completed(futures):
                yield future.result()


Job = tuple[Path, Crystals, RelaxationSettings | None]


def write_part(potential: Potential, file: Path, crystals: Crystals, settings: RelaxationSettings | None) -> int:
    """Computes one part and writes it; gives its number of crystals."""
    import pyarrow as pa

    began = time.perf_counter()
    if settings is None:
        columns = {"energy_per_atom": single_points(potential, crystals), "converged": np.ones(len(crystals))}
    else:
        columns = _relaxed(potential, crystals, settings)
    seconds = (time.perf_counter() - began) / len(crystals)
    _write_table(pa.table({**columns, "seconds": np.full(len(crystals), seconds)}), file)
    return len(crystals)


def _write_part_by_name(name: str, file: Path, crystals: Crystals, settings: RelaxationSettings | None) -> int:
    return write_part(load_potential(name), file, crystals, settings)


def single_points(potential: Potential, crystals: Crystals) -> FloatArray:
    """(B,) eV/atom of crystals as they are, small ones together in a batch."""
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
    return energies / crystals.num_atoms


def _relaxed(potential: Potential, crystals: Crystals, settings: RelaxationSettings) -> dict[str, FloatArray]:
    outcomes = relax(crystals, potential, settings)
    energies = np.array([outcome.energy for outcome in outcomes]) / crystals.num_atoms
    converged = np.array([float(outcome.converged) for outcome in outcomes])
    return {"energy_per_atom": energies, "converged": converged}


def _near(hull: Hull, crystals: Crystals, energies: FloatArray) -> tuple[IntArray, FloatArray]:
    """Places of the phases within NEAR of the hull, the nearest and then the smallest first; their eV/atom above it."""
    found = energies_above(hull, crystals, energies)
    above = np.array([np.inf if isinstance(a, str) else max(a, 0.0) for a in found]).round(DECIMALS)
    order = np.lexsort((np.arange(len(above)), crystals.num_atoms, above))
    order = order[above[order] <= NEAR]
    return order, above[order]


def _shift(found: Computed, points: FloatArray) -> dict[str, float] | None:
    """What relaxing changed, eV/atom."""
    shifts = (found.energies - points)[found.converged]
    if len(shifts) == 0:
        return None
    low, median, high = np.quantile(shifts, [0.05, 0.5, 0.95])
    given = {"mean": float(shifts.mean()), "median": float(median), "q05": float(low), "q95": float(high)}
    return {"phases": len(shifts), **{name: round(value, DECIMALS) for name, value in given.items()}}


def _write(
    out: Path,
    name: str,
    ids: Sequence[str],
    formulas: Sequence[str],
    energies: FloatArray,
    points: FloatArray,
    relaxed: BoolArray,
    card: dict[str, Any],
) -> None:
    import pyarrow as pa

    columns = {"energy_per_atom": energies.round(DECIMALS), "single_point": points.round(DECIMALS)}
    table = pa.table({"formula": formulas, **columns, "id": ids, "relaxed": relaxed})
    path = out / f"{name}.parquet"
    _write_table(table, path)
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(path.with_suffix(".json"), card)


def _write_table(table: pa.Table, path: Path) -> None:
    """A file that appears whole or not at all."""
    import pyarrow.parquet as pq

    with replacement(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19)
