"""Energies of labelled crystals by a potential, as given and relaxed, in files that a killed process leaves behind.

They do not depend on a hull: with another one, the comparison starts from these files.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.stability.hull import SYMBOL, Hull
from tasks.stability.hull_build import Parts, single_points
from tasks.stability.phases import Phases
from tasks.stability.potentials import Potential, load_potential, potential_protocol
from tasks.stability.relaxation import RelaxationSettings, relax
from tasks.stability.validation.labelled import Labelled

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray = NDArray[np.float64]
ABOUT = b"crysldm_bench.energies_of"
PART = 20  # crystals between two files


@dataclass(frozen=True)
class Measured:
    """B labelled crystals with their energies, eV/atom: as given, and relaxed where `converged`.

    steps: (B,) of the relaxations. point_seconds, relax_seconds: (B,) of user CPU time for a crystal, the mean of the
    PART that were computed together.
    """

    ids: list[str]
    formulas: list[str]
    num_atoms: NDArray[np.int64]
    published: FloatArray
    points: FloatArray
    relaxed: FloatArray
    converged: NDArray[np.bool_]
    steps: NDArray[np.int64]
    point_seconds: FloatArray
    relax_seconds: FloatArray

    @property
    def systems(self) -> list[frozenset[str]]:
        """(B,) their elements."""
        return [frozenset(SYMBOL.findall(formula)) for formula in self.formulas]


def measure(name: str, cache: Path, source: str, number: int, labelled: Callable[[], Labelled]) -> Measured:
    """The first `number` crystals of a source (rounded up to whole PARTs); those not in the cache are computed.

    ValueError where the cache was made with other weights or settings.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"potential": potential_protocol(name), "relaxation": RelaxationSettings().protocol()}
    files = [cache / Path(name).name / f"{source}-{k:03d}.parquet" for k in range(-(-number // PART))]
    crystals: Labelled | None = None
    for k, file in enumerate(files):
        if not file.is_file():
            crystals = labelled() if crystals is None else crystals
            table = _measured(load_potential(name), crystals[PART * k : PART * (k + 1)])
            _write(table.replace_schema_metadata({ABOUT: json.dumps(about)}), file)
    tables = [pq.read_table(file) for file in files]
    for file, table in zip(files, tables, strict=True):
        if json.loads((table.schema.metadata or {}).get(ABOUT, b"null")) != about:
            raise ValueError(f"{file}: computed with other weights or settings; delete it, or name another cache")
    joined = pa.concat_tables(tables)
    lists = {column: joined[column].to_pylist() for column in ("ids", "formulas")}
    arrays = {column: joined[column].to_numpy() for column in joined.schema.names if column not in lists}
    return Measured(**lists, **arrays)


def _measured(potential: Potential, part: Labelled) -> pa.Table:
    import pyarrow as pa

    crystals, count = part.crystals, len(part.ids)
    started = _user_seconds()
    points = single_points(potential, crystals)
    between = _user_seconds()
    outcomes = relax(crystals, potential)
    ended = _user_seconds()
    columns: dict[str, Any] = {
        "ids": list(part.ids),
        "formulas": [crystals.formula(b) for b in range(count)],
        "num_atoms": crystals.num_atoms,
        "published": part.published,
        "points": points,
        "relaxed": np.array([outcome.energy for outcome in outcomes]) / crystals.num_atoms,
        "converged": np.array([outcome.converged for outcome in outcomes], dtype=np.bool_),
        "steps": np.array([outcome.steps for outcome in outcomes], dtype=np.int64),
        "point_seconds": np.full(count, (between - started) / max(count, 1)),
        "relax_seconds": np.full(count, (ended - between) / max(count, 1)),
    }
    return pa.table(columns)


def hull_of_points(
    name: str, cache: Path, systems: Collection[frozenset[str]], phases: Callable[[], Phases]
) -> tuple[Hull, list[str]]:
    """The hull of single points of all phases in these chemical systems, and the phases' ids.

    What lies in other systems changes nothing there, so it equals the hull of all phases.
    """
    found = phases()
    wanted = {
        frozenset(part)
        for system in systems
        for count in range(len(system))
        for part in itertools.combinations(sorted(system), count + 1)
    }
    formulas = [found.crystals.formula(b) for b in range(len(found.ids))]
    places = np.array([b for b, formula in enumerate(formulas) if frozenset(SYMBOL.findall(formula)) in wanted])
    ids = [found.ids[b] for b in places]
    parts = Parts(load_potential(name), cache / Path(name).name / "points", 1, None)
    computed = parts.compute("points", ids, found.crystals[places], None, {})
    return Hull([formulas[b] for b in places], computed.energies, {}), ids


def _user_seconds() -> float:
    """Of this process so far: what others do on the machine hardly changes it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def _write(table: pa.Table, file: Path) -> None:
    """A file that appears whole or not at all."""
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, file)
