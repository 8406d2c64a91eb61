"""What a Dask worker does: checks that it computes what the driver would, loads what that takes, draws and scores.

Jobs and answers travel as pickled bytes: the scheduler, which opens what it forwards, then needs no package of a
model's. Nothing here writes a file.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.budget import device_clock
from bench.crystals import FilteredCrystals
from bench.device import describe_device, resolve_device, set_threads
from bench.interfaces import Generator, Task
from bench.parquet import table_bytes
from bench.run_folder import manifest as manifests
from bench.sampling.sources import GeneratorSource, PreparationCost, Recipe, Request, SourceBatch
from bench.scoring.tables import score_and_keep

# Libraries read these when Python starts; `dask worker` sets them where it has a nanny.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class NotReady(Exception):
    """A worker has not been set up for this work: it joined, or was restarted, or serves another run as well."""


@dataclass(frozen=True)
class Report:
    """What a worker says once it is ready. prepared: what loading and warming up took."""

    device: dict[str, Any]
    prepared: PreparationCost = field(default_factory=PreparationCost)


class Setup(Protocol):
    """What a worker needs before it can work; ValueError where it would compute something else than the driver."""

    @property
    def token(self) -> str:
        """Names the set-up: work is done only where this one was the last."""

    def make(self) -> tuple[Any, Report]:
        """What the work takes, and what to tell the driver."""


def shared_facts() -> dict[str, Any]:
    """What driver and workers must have in common for any work."""
    return {"software": manifests.software(), "code": manifests.code_sha256()[:16], "environment": ONE_THREAD}


def require_facts(facts: Mapping[str, Any]) -> None:
    """ValueError where this worker's are not those of the driver."""
    own = {**shared_facts(), "environment": {name: os.environ.get(name) for name in ONE_THREAD}}
    what, remedy = "the installation, driver -> worker,", "install the same on both, and start the worker with a nanny"
    manifests.require_same(facts, own, what, remedy)


@dataclass(frozen=True)
class Inspection:
    """Only whether a worker may take part, and with which device. asked: auto, cpu or cuda."""

    token: str
    facts: Mapping[str, Any]
    asked: str

    def make(self) -> tuple[Any, Report]:
        """Nothing, and the device."""
        require_facts(self.facts)
        return None, Report(describe_device(resolve_device(self.asked)))


@dataclass(frozen=True)
class SamplingSetup:
    """A model loaded and warmed up. card: of the driver's weights."""

    token: str
    facts: Mapping[str, Any]
    recipe: Recipe
    card: Any

    def make(self) -> tuple[GeneratorSource, Report]:
        """Its batches, and what loading it took."""
        require_facts(self.facts)
        device = describe_device(resolve_device(self.recipe.device))
        source = self.recipe.source(self.recipe.build(), device_clock(self.recipe.device), self._require_card)
        return source, Report(device, source.prepare())

    def _require_card(self, generator: Generator) -> None:
        card = manifests.as_json(getattr(generator, "card", None))
        what = f"the weights or settings of {self.recipe.name}, driver -> worker,"
        manifests.require_same({"card": self.card}, {"card": card}, what, "give both the same files")


@dataclass(frozen=True)
class ScoringSetup:
    """Tasks whose protocol is the driver's. data: `manifests.data_at_hand` there; what is novel may depend on it."""

    token: str
    facts: Mapping[str, Any]
    tasks: Sequence[Task]
    protocols: Mapping[str, Any]
    dataset: str
    data: Mapping[str, str]

    def make(self) -> tuple[dict[str, Task], Report]:
        """The tasks by name."""
        require_facts(self.facts)
        own = {task.name: manifests.as_json(task.protocol()) for task in self.tasks}
        manifests.require_same(self.protocols, own, "the protocol, driver -> worker,", "give both the same files")
        what = f"the data of {self.dataset} at hand, driver -> worker,"
        here = manifests.data_at_hand(self.dataset)
        manifests.require_same(self.data, here, what, "let BENCH_DATA_DIR name the same on both")
        return {task.name: task for task in self.tasks}, Report(describe_device("cpu"))


@dataclass(frozen=True)
class Rows:
    """Crystals to be scored. first_row: place of the first one among all of the model's."""

    task: str
    filtered: FilteredCrystals
    first_row: int


_held: dict[str, Any] = {}  # what the last set-up made, by its token; one, so that weights leave the device


def set_up(setup: bytes) -> bytes:
    """Runs a pickled `Setup` and keeps what it made, alone; gives its pickled `Report`."""
    made: Setup = pickle.loads(setup)
    _held.clear()
    work, report = made.make()
    _held[made.token] = work
    return pickle.dumps(report)


def work(token: str, job: bytes) -> bytes:
    """Runs a pickled (function, argument) with what the set-up made; gives the pickled answer. NotReady without it."""
    if token not in _held:
        from distributed import get_worker

        raise NotReady(get_worker().address)
    function: Callable[[Any, Any], Any]
    function, argument = pickle.loads(job)
    return pickle.dumps(function(_held[token], argument))


def draw(source: GeneratorSource, request: Request) -> SourceBatch:
    """A batch, timed by this worker's device clock."""
    set_threads(source.threads)
    return next(source.draws([request], ahead=False))


def score(tasks: Mapping[str, Task], rows: Rows) -> tuple[bytes, bytes | None]:
    """The Parquet files of a chunk's rows and of its relaxed crystals, if the task has any.

    Scored with the one thread that a scoring process has.
    """
    set_threads(1)
    table, kept = score_and_keep(tasks[rows.task], rows.filtered, rows.first_row)
    return table_bytes(table), None if kept is None else table_bytes(kept)
