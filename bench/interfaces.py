"""The seams of the harness: what a generator, a task and a potential are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bench.arrays import BoolArray, IntArray
from bench.crystals import Crystals, FilteredCrystals

if TYPE_CHECKING:
    import pyarrow as pa

    from bench.datasets import ReferenceCard
    from bench.statistics import Metric


@dataclass(frozen=True)
class SampleBatch:
    """What one call of a generator gave.

    crystals: those that exist. steps: diffusion steps of the sampler, None where the word has no meaning.
    network_evaluations: (requested,) evaluations spent on each crystal asked for, >= 0.
    reasons: place among those asked for -> why there is no crystal (a network gave NaN, say); usually empty.
    """

    crystals: Crystals
    steps: int | None
    network_evaluations: NDArray[np.number[Any]]
    reasons: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        evaluations = np.asarray(self.network_evaluations)
        if self.steps is not None and (not isinstance(self.steps, int | np.integer) or self.steps < 0):
            raise ValueError(f"steps must be a whole number >= 0 or None, not {self.steps!r}")
        if evaluations.shape != (self.requested,):
            raise ValueError(
                f"network_evaluations has shape {evaluations.shape}, but {self.requested} crystals were asked for"
            )
        if not (np.isrealobj(evaluations) and np.isfinite(evaluations).all() and (evaluations >= 0).all()):
            raise ValueError("network_evaluations must be finite and >= 0")
        if any(not 0 <= place < self.requested for place in self.reasons):
            raise ValueError(f"reasons name places outside 0..{self.requested - 1}")
        object.__setattr__(self, "network_evaluations", evaluations)

    @property
    def requested(self) -> int:
        """Crystals asked for in this call."""
        return len(self.crystals) + len(self.reasons)

    def filtered(self) -> FilteredCrystals:
        """The crystals with their places among those asked for."""
        places = np.array([p for p in range(self.requested) if p not in self.reasons], dtype=np.int64)
        return FilteredCrystals(self.crystals, places, dict(self.reasons))


@runtime_checkable
class Generator(Protocol):
    """A model that makes crystals. A batch is a function of (seed, num_crystals, weights, preset, threads, device).

    It may also have `batch_size`, crystals in a batch, a number or a function of the device, and `card`, plain JSON
    that says what the crystals depend on (checksum of the weights, settings): it goes into the manifest, and a run
    does not go on with another one. Seeds are below 2**32.
    """

    name: str

    def load(self, device: str) -> None:
        """Reads weights and moves them to the device ("cpu", "cuda"). Never timed as sampling."""

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """That many crystals. Called with keywords; leaves global random state alone."""


@runtime_checkable
class StructurePredictor(Generator, Protocol):
    """A generator that also gives structures for compositions: crystal structure prediction (`bench csp`).

    One that does nothing else has a `sample` that raises ValueError and says so.
    """

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        """One crystal for each composition, in their order, with exactly these atomic numbers in this order.

        compositions: (N_i,) atomic numbers of one crystal's atoms each, any mix of sizes. A place of which there is no
        crystal has a reason. A function of (seed, compositions, weights, preset, threads, device). Called with
        keywords; leaves global random state alone.
        """


class Task(Protocol):
    """Maps crystals to one row each, and a table of rows to summary metrics.

    `score` is pure and sees one chunk of crystals at a time, perhaps in a worker process of one thread, so a task
    pickles. The runner adds the rows of crystals that do not exist: booleans false, numbers null, with their reason.
    Its class may have `needs`, the names of tasks whose tables its summary reads: they are scored along with it; and
    `chunk_crystals`, how many crystals `score` gets at a time where the usual 500 would be minutes of work.
    """

    name: str  # of its table. A class of which a run has several has the word for all of them as its `kind`

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table: index (int64), formula (string), the task's own, reason (string, null where fine)."""

    def protocol(self) -> dict[str, Any]:
        """Every setting and version that the task's numbers depend on, as plain JSON."""

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal in order, all columns of `schema` but index."""

    def score_and_relaxed(self, crystals: Crystals) -> tuple[pa.Table, pa.Table]:
        """What `score` gives, and a table of the crystals that it relaxed, which the run folder keeps.

        Its `index` is the place among `crystals`. A task may do without this method.
        """

    def score_at(self, crystals: Crystals, rows: IntArray) -> pa.Table:
        """What `score` gives, of a task for which the crystals' places among those asked for mean something.

        rows: (B,). A task may do without this method; it is called in place of `score` where there is one.
        """

    def finish(self, table: pa.Table) -> pa.Table:
        """The whole table with what needs all rows at once (duplicates, say); most tasks return it unchanged.

        A task may do without this method; its rows are then never in memory all at once.
        """

    def compare(self, table: pa.Table, crystals: Callable[[IntArray], Crystals]) -> pa.Table:
        """In place of `finish`, for a task that holds the crystals of a whole sample against each other.

        crystals: gives those of rows that have one, in the order asked for. A task may do without this method too.
        """

    def renewed(self, table: pa.Table, protocol: Mapping[str, Any]) -> pa.Table:
        """A stored table with what today's protocol says of the costly figures in it, which are kept.

        protocol: the task's, under which the table was scored. ValueError says why its figures are not today's. A task
        may do without this method: its crystals are then always scored anew.
        """

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Metrics over all requested crystals, each with a 95 % interval.

        tables: the finished tables of all tasks of the model by task name, this one's among them, rows in the same
        order: what counts over valid crystals only finds them there.
        """

    def about(self) -> Mapping[str, Any]:
        """What a reader of its figures should know and they do not depend on (a measured error, say), as plain JSON.

        A task may do without this method. Goes into summary.json, and is no part of the protocol.
        """


@dataclass(frozen=True)
class TrainingPlan:
    """What `bench train` is asked for.

    out: folder of checkpoints, logs and weights, by default checkpoints/MODEL-DATASET-PRESET. max_time: of this call; a
    stopped run goes on with `resume`. device: "auto", "cpu" or "cuda". threads: one is best beside other work.
    epochs: of the last stage, instead of the preset's. init: weights that the last stage starts from, in place of the
    stages before it. compile_network: by torch.compile; None means where there is a C++ compiler, on a GPU or where all
    crystals have one N: 20 sizes of N take minutes to compile.
    """

    model: str
    dataset: str
    preset: str = "cpu"
    out: Path | None = None
    max_time: timedelta | None = None
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    epochs: int | None = None
    init: Path | None = None
    compile_network: bool | None = None


@dataclass(frozen=True)
class TrainingOrder:
    """One training of `bench learn`.

    dataset: "perov5", "mp20" or a plug-in's. preset: size of our models. device: "cpu" or "cuda". seed: of every random
    number. rate_factor: what the model's own learning rate is multiplied by. folder: for checkpoints, kept between
    calls until the training has ended.
    """

    dataset: str
    preset: str
    device: str
    threads: int
    seed: int
    rate_factor: float
    folder: Path


class TrainingTimer(Protocol):
    """Measures the steps of a training and says when it is over. What lies between two steps costs nothing."""

    @property
    def seconds(self) -> float:
        """Device seconds of all steps so far."""

    @property
    def budget_s(self) -> float:
        """Device seconds of the whole training."""

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""

    def start(self) -> None:
        """Before a step, once its data is there."""

    def stop(self, save: Callable[[Path], None]) -> bool:
        """After a step; gives whether there is time left.

        save: writes the weights as they would be sampled from into a folder; called where a snapshot is due.
        """

    def state(self) -> dict[str, Any]:
        """Plain JSON, to be kept in every checkpoint."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """To be called with the state in the checkpoint that a training goes on from."""


@runtime_checkable
class Trainable(Protocol):
    """A model that `bench learn` trains from scratch.

    name: of the model. sampler: entry of --models that samples from its weights, a name or module:Class; what builds
    it takes `weights`, the file weights.safetensors in a snapshot's folder, or the folder where
    there is none. few_steps: the same for a sampler of few steps, None where the model has none.
    """

    name: str
    sampler: str
    few_steps: str | None

    def train(self, order: TrainingOrder, timer: TrainingTimer) -> None:
        """Trains until `timer.over`, from a checkpoint in `order.folder` where there is one.

        A function of the order and of what the timer measures: a training that was killed and goes on saves the same
        weights. Loading data and validation are not timed. Leaves global random state alone.
        """


def task_kind(task: Task) -> str:
    """What the task is asked for by; its name where its class has no `kind`."""
    return str(getattr(task, "kind", task.name))


def task_name(kind: str, potential: str) -> str:
    """Name of the task, and of its table, for a second potential: "stability-m3gnet"."""
    return f"{kind}-{potential}"


def task_schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of a task's table: these between index and formula on one side and reason on the other."""
    import pyarrow as pa

    return pa.schema({"index": pa.int64(), "formula": pa.string(), **columns, "reason": pa.string()})


def with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """The table with these values in place of those that its columns of the same names have; types stay."""
    import pyarrow as pa

    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        own = table.schema.field(place)
        table = table.set_column(place, own, pa.array(values, own.type))
    return table


def flags(column: pa.ChunkedArray | pa.Array, if_null: bool = False) -> BoolArray:
    """(n,) of a column of booleans; if_null: what those are that are not known."""
    return np.asarray(column.fill_null(if_null).to_numpy(zero_copy_only=False), dtype=bool)


def task_rows(schema: pa.Schema, crystals: Crystals, columns: Mapping[str, Any]) -> pa.Table:
    """What `Task.score` gives: one row per crystal, with its formula and these values. Without a `reason`, none."""
    import pyarrow as pa

    formulas = [crystals.formula(b) for b in range(len(crystals))]
    values = {"formula": formulas, "reason": [None] * len(crystals), **columns}
    fields = [field for field in schema if field.name != "index"]
    return pa.table([pa.array(values[field.name], field.type) for field in fields], schema=pa.schema(fields))
