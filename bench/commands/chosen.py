"""Crystals of a run that a filter chooses, as generated and as relaxed, with what its tables say of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import BoolArray, IntArray
from bench.commands.given import Only
from bench.crystals import Crystals
from bench.interfaces import flags
from bench.run_folder.relaxed import has_geometry, relaxed_crystals
from bench.run_folder.shards import SampleFolder
from bench.store import Run

if TYPE_CHECKING:
    import pyarrow as pa

STABILITY = "stability"  # the kind of the task, and the name of the first one's table
# Columns of tables, in the order in which they are written. Energies are those of the relaxed crystal.
OF_TASK = {"validity": ("valid",), "novelty": ("unique", "novel")}
OF_STABILITY = (
    "energy_per_atom",
    "e_above_hull",
    "stable",
    "stable_probability",
    "converged",
    "relax_steps",
    "potential_of_verdict",
)
OF_RELAXED = ("energy", "formation_energy_per_atom", "rmsd", "volume_change", "fmax")


Columns = dict[str, Any]  # name -> Arrow array


@dataclass(frozen=True)
class Judge:
    """Whose word on stability counts: the name of the task's table, and the potential or chain of them."""

    task: str
    potential: str


@dataclass(frozen=True)
class Chosen:
    """B crystals of one repeat of a model.

    requested: crystals asked for. places: (B,) rows in its tables. given: as generated. properties: B rows.
    has_relaxed: (B,) whether a relaxed geometry was kept. relaxed: those. why_not: (B,) for the others why not.
    undecided: crystals that are stable and unique, but of which it is not known whether they are novel.
    """

    model: str
    repeat: int
    requested: int
    places: IntArray
    given: Crystals
    properties: pa.Table
    has_relaxed: BoolArray
    relaxed: Crystals
    why_not: list[str | None]
    undecided: int

    def name(self, place: int) -> str:
        """What a crystal is called: model, repeat but for the first, and row."""
        return "-".join([self.model, *([f"repeat-{self.repeat}"] if self.repeat else []), str(place)])


def judges(run: Run) -> list[Judge]:
    """The stability tasks of a run, in order."""
    found = []
    for task, protocol in run.manifest["protocol"]["tasks"].items():
        if task == STABILITY or task.startswith(f"{STABILITY}-"):
            potential = protocol.get("potential")
            name = potential.get("name") if isinstance(potential, Mapping) else None
            found.append(Judge(task, str(name or task.partition("-")[2] or task)))
    return found


def choose(run: Run, model: str, repeat: int, only: Only | None, judge: Judge | None) -> Chosen:
    """The crystals of one repeat that exist and pass the filter. judge: None for a run without stability.

    ValueError where a table that the filter needs was not scored, or where something is damaged.
    """
    folder = run.folders(model)[repeat]
    task = STABILITY if judge is None else judge.task
    needed = {None: [], Only.valid: ["validity"], Only.stable: [task], Only.sun: [task, "novelty"]}[only]
    scored = [name for name in run.tasks if name in (*OF_TASK, task)]
    tables = {name: run.task_table(model, name, repeat) for name in dict.fromkeys([*needed, *scored])}
    wanted, undecided = _passing(tables, folder.counted, only, task)
    places, given = _existing(folder, wanted)
    kept = None if judge is None else run.relaxed(model, task, repeat)
    rows = _rows_of(kept, places)
    has_relaxed = rows >= 0
    if kept is not None:
        has_relaxed[has_relaxed] = np.asarray(has_geometry(kept).to_numpy())[rows[has_relaxed]]
    reasons = tables[task]["reason"].take(places).to_pylist() if task in tables else [None] * len(places)
    unkept = "the run keeps no relaxed crystals" if kept is None else "not relaxed"
    properties = _table(
        _named(model, repeat, places, given)
        | _of_tables(tables, judge, places)
        | ({} if kept is None else _of_relaxed(kept, rows))
    )
    return Chosen(
        model,
        repeat,
        folder.counted,
        places,
        given,
        properties,
        has_relaxed,
        Crystals.empty() if kept is None else relaxed_crystals(kept.take(rows[has_relaxed])),
        [None if has else why or unkept for has, why in zip(has_relaxed, reasons, strict=True)],
        undecided,
    )


def _passing(tables: Mapping[str, pa.Table], n: int, only: Only | None, task: str) -> tuple[BoolArray, int]:
    """(n,) which crystals the filter lets through, and how many it might if more were known."""
    if only is None:
        return np.ones(n, dtype=bool), 0
    if only is Only.valid:
        return flags(tables["validity"]["valid"]), 0
    stable = flags(tables[task]["stable"])
    if only is Only.stable:
        return stable, 0
    unique, novel = flags(tables["novelty"]["unique"]), flags(tables["novelty"]["novel"])
    perhaps = stable & unique & flags(tables["novelty"]["novel"], if_null=True)
    return stable & unique & novel, int(perhaps.sum()) - int((stable & unique & novel).sum())


def _existing(folder: SampleFolder, wanted: BoolArray) -> tuple[IntArray, Crystals]:
    """Places and crystals of those wanted that exist, one shard in memory at a time beside them."""
    parts = list(folder.existing(wanted))
    places = [np.zeros(0, dtype=np.int64), *(rows for rows, _ in parts)]
    return np.concatenate(places), Crystals.concatenate([crystals for _, crystals in parts])


def _rows_of(kept: pa.Table | None, places: IntArray) -> IntArray:
    """(B,) rows of the relaxed crystals that have these places, -1 where there is none."""
    if kept is None or not kept.num_rows:
        return np.full(len(places), -1)
    known = np.asarray(kept["index"].to_numpy())
    rows = np.minimum(np.searchsorted(known, places), len(known) - 1)
    return np.where(known[rows] == places, rows, -1)


def _table(columns: Columns) -> pa.Table:
    import pyarrow as pa

    return pa.table(columns)


def _named(model: str, repeat: int, places: IntArray, given: Crystals) -> Columns:
    import pyarrow as pa

    return {
        "model": pa.array([model] * len(places), pa.string()),
        "repeat": pa.array([repeat] * len(places), pa.int64()),
        "index": pa.array(places, pa.int64()),
        "formula": pa.array([given.formula(b) for b in range(len(places))], pa.string()),
    }


def _of_tables(tables: Mapping[str, pa.Table], judge: Judge | None, places: IntArray) -> Columns:
    """Columns of those that were scored; a run of an earlier version may lack some."""
    import pyarrow as pa

    columns: Columns = {}
    judged = [] if judge is None else [judge.task]
    for name in (name for name in ("validity", *judged, "novelty") if name in tables):
        own = tables[name].take(pa.array(places))
        for column in OF_TASK.get(name, OF_STABILITY):
            if column in own.column_names:
                columns[column] = own[column]
        columns[f"{STABILITY if name in judged else name}_reason"] = own["reason"]
    if judge is not None:
        columns["potential"] = pa.array([judge.potential] * len(places), pa.string())
    return columns


def _of_relaxed(kept: pa.Table, rows: IntArray) -> Columns:
    """Null where no relaxed crystal was kept."""
    import pyarrow as pa

    places = pa.array(rows, mask=rows < 0)
    return {name: kept[name].take(places) for name in OF_RELAXED if name in kept.column_names}
