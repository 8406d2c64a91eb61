"""Energies of labelled crystals by a potential, as given and relaxed, in files that a killed process leaves behind.

They do not depend on a hull: with another one, the comparison starts from these files.
"""

from __future__ import annotations

import itertools
import json
import resource
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.atomic import replacement
from bench.chemistry import symbols_in
from tasks.stability.hull import Hull
from tasks.stability.hull.build import Parts, single_points
from tasks.stability.hull.phases import Phases
from tasks.stability.potentials import Potential, load_potential, potential_protocol
from tasks.stability.relaxation import RelaxationSettings, relax
from tasks.stability.validation.labelled import Labelled

if TYPE_CHECKING:
    import pyarrow as pa

ABOUT = b"crysldm_bench.energies_of"
POINTS_PART, RELAXED_PART = 100, 20  # crystals between two files


@dataclass(frozen=True)
class Measured:
    """B labelled crystals with their energies, eV/atom: as given, and relaxed, NaN where they were not relaxed.

    steps: (B,) of the relaxations. point_seconds, relax_seconds: (B,) of user CPU time for a crystal, the mean of those
    that were computed together.
    """

    ids: list[str]
    formulas: list[str]
    num_atoms: IntArray
    published: FloatArray
    points: FloatArray
    point_seconds: FloatArray
    relaxed: FloatArray
    converged: BoolArray
    steps: IntArray
    relax_seconds: FloatArray

    @property
    def systems(self) -> list[frozenset[str]]:
        """(B,) their elements."""
        return [symbols_in(formula) for formula in self.formulas]

    def __getitem__(self, chosen: BoolArray) -> Measured:
        """Those crystals alone."""
        places = np.flatnonzero(chosen)
        parts: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            parts[field.name] = [column[b] for b in places] if isinstance(column, list) else column[places]
        return Measured(**parts)


def measure(
    name: str, cache: Path, source: str, number: int, relaxed: int, labelled: Callable[[], Labelled]
) -> Measured:
    """The first `number` crystals of a source as given, the first `relaxed` of them relaxed too.

    Numbers are rounded up to whole parts. What is not in the cache is computed. ValueError where the cache was made
    with other weights or settings.
    """
    given = _read(name, cache, f"{source}-points", -(-number // POINTS_PART), POINTS_PART, labelled, _points)
    done = _read(name, cache, source, -(-relaxed // RELAXED_PART), RELAXED_PART, labelled, _relaxed)
    first = {i: place for place, i in enumerate(done["ids"])}
    places = [first.get(i) for i in given["ids"]]

    def of_relaxed(column: str, missing: float) -> list[Any]:
        return [missing if place is None else done[column][place] for place in places]

    return Measured(
        ids=given["ids"],
        formulas=given["formulas"],
        num_atoms=np.array(given["num_atoms"]),
        published=np.array(given["published"]),
        points=np.array(given["points"]),
        point_seconds=np.array(given["point_seconds"]),
        relaxed=np.array(of_relaxed("relaxed", np.nan)),
        converged=np.array(of_relaxed("converged", False), dtype=np.bool_),
        steps=np.array(of_relaxed("steps", 0)),
        relax_seconds=np.array(of_relaxed("relax_seconds", np.nan)),
    )


def _read(
    name: str,
    cache: Path,
    stem: str,
    count: int,
    size: int,
    labelled: Callable[[], Labelled],
    compute: Callable[[Potential, Labelled], dict[str, Any]],
) -> dict[str, list[Any]]:
    """The columns of `count` parts of `size` crystals, the missing ones computed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"potential": potential_protocol(name), "relaxation": RelaxationSettings().protocol()}
    columns: dict[str, list[Any]] = {"ids": []}
    for k in range(count):
        file = cache / Path(name).name / f"{stem}-{k:03d}.parquet"
        if not file.is_file():
            part = labelled()[size * k : size * (k + 1)]
            table = pa.table({"ids": list(part.ids), **compute(load_potential(name), part)})
            _write(table.replace_schema_metadata({ABOUT: json.dumps(about)}), file)
        table = pq.read_table(file)
        if json.loads((table.schema.metadata or {}).get(ABOUT, b"null")) != about:
            raise ValueError(f"{file}: computed with other weights or settings; delete it, or name another cache")
        for column, values in table.to_pydict().items():
            columns.setdefault(column, []).extend(values)
    return columns


def _points(potential: Potential, part: Labelled) -> dict[str, Any]:
    crystals, count = part.crystals, len(part.ids)
    started = _user_seconds()
    energies = single_points(potential, crystals)
    return {
        "formulas": [crystals.formula(b) for b in range(count)],
        "num_atoms": crystals.num_atoms,
        "published": part.published,
        "points": energies,
        "point_seconds": np.full(count, (_user_seconds() - started) / max(count, 1)),
    }


def _relaxed(potential: Potential, part: Labelled) -> dict[str, Any]:
    count = len(part.ids)
    started = _user_seconds()
    outcomes = relax(part.crystals, potential)
    return {
        "relaxed": np.array([outcome.energy for outcome in outcomes]) / part.crystals.num_atoms,
        "converged": np.array([outcome.converged for outcome in outcomes], dtype=np.bool_),
        "steps": np.array([outcome.steps for outcome in outcomes], dtype=np.int64),
        "relax_seconds": np.full(count, (_user_seconds() - started) / max(count, 1)),
    }


def hull_of_points(
    name: str, cache: Path, systems: Collection[frozenset[str]], phases: Callable[[], Phases]
) -> tuple[Hull, list[str]]:
    """The hull of single points of all phases in these chemical systems, and the phases' ids; kept in the cache.

    What lies in other systems changes nothing there, so it equals the hull of all phases.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"potential": potential_protocol(name), "systems": sorted("-".join(sorted(system)) for system in systems)}
    file = cache / Path(name).name / "hull.parquet"
    table = pq.read_table(file) if file.is_file() else None
    before = {} if table is None else json.loads(table.schema.metadata[ABOUT])
    if table is None or before != about:
        known = {}
        if table is not None and before["potential"] == about["potential"]:
            known = dict(zip(table["ids"].to_pylist(), table["energies"].to_pylist(), strict=True))
        found = phases()
        formulas = [found.crystals.formula(b) for b in range(len(found.ids))]
        wanted = _subsystems(systems)
        places = np.array([b for b, formula in enumerate(formulas) if symbols_in(formula) in wanted])
        ids = [found.ids[b] for b in places]
        parts = Parts(load_potential(name), cache / Path(name).name / "points", 1, None)
        computed = parts.compute("points", ids, found.crystals[places], None, known)
        columns = {"ids": ids, "formulas": [formulas[b] for b in places], "energies": computed.energies}
        table = pa.table(columns).replace_schema_metadata({ABOUT: json.dumps(about)})
        _write(table, file)
    return Hull(table["formulas"].to_pylist(), table["energies"].to_numpy(), {}), table["ids"].to_pylist()


def _subsystems(systems: Collection[frozenset[str]]) -> set[frozenset[str]]:
    return {
        frozenset(part)
        for system in systems
        for count in range(len(system))
        for part in itertools.combinations(sorted(system), count + 1)
    }


def _user_seconds() -> float:
    """Of this process so far: what others do on the machine hardly changes it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def _write(table: pa.Table, file: Path) -> None:
    """A file that appears whole or not at all."""
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    with replacement(file) as temporary:
        pq.write_table(table, temporary)
