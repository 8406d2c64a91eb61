"""Where a run computes: processes of this machine, the default, or Dask workers on any number of machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.budget import Budget, DeviceClock, device_clock
from bench.device import describe_device, resolve_device
from bench.interfaces import Generator, Task
from bench.sampling.sources import Recipe, Source
from bench.scoring.pool import ScoringPool, scoring_pool
from bench.scoring.tables import Scorer

ExecutorName = Literal["local", "dask"]


class Executor(Protocol):
    """What samples and scores. Only the process that holds the run's lock writes into its folder."""

    @property
    def name(self) -> str:
        """What the manifest says of it."""

    @property
    def workers(self) -> int:
        """Processes of this machine that it may use."""

    def accept(self, budget: Budget) -> None:
        """ValueError where it cannot keep that budget."""

    def device(self, asked: str) -> dict[str, Any]:
        """Kind and name of the device that auto, cpu or cuda means there."""

    def open(self, recipe: Recipe, generator: Generator, loaded: Callable[[Generator], None]) -> Source:
        """Where a model's crystals come from. loaded: called with a generator that has its weights."""

    def scoring(self, tasks: Sequence[Task], dataset: str) -> AbstractContextManager[Scorer]:
        """What scores chunks with these tasks. dataset: what crystals are compared with."""


@dataclass(frozen=True)
class LocalExecutor:
    """This machine: samples in this process, scores in `workers` others. clock: the device's own for None."""

    workers: int = 2
    clock: DeviceClock | None = None
    name = "local"

    def accept(self, budget: Budget) -> None:
        """Keeps all of them."""

    def device(self, asked: str) -> dict[str, Any]:
        """This machine's."""
        return describe_device(resolve_device(asked))

    def open(self, recipe: Recipe, generator: Generator, loaded: Callable[[Generator], None]) -> Source:
        """Sampled here, repeats in processes of their own unless a clock of this process is given."""
        if recipe.fresh and self.clock is None:
            from bench.sampling.fresh import FreshSource

            return FreshSource(recipe, loaded)
        return recipe.source(generator, self.clock or device_clock(recipe.device), loaded, metered=self.clock is None)

    def scoring(self, tasks: Sequence[Task], dataset: str) -> AbstractContextManager[ScoringPool]:
        """A pool of processes."""
        return scoring_pool(tasks, self.workers)


@contextmanager
def open_executor(name: ExecutorName, scheduler: str | None, cluster: Path | None, workers: int) -> Iterator[Executor]:
    """The executor that the options name, connected. Dask is imported for "dask" only.

    scheduler: address of a running one. cluster: YAML file of a batch system's (`bench.cluster.connection`).
    ValueError where the options do not fit together, Dask is not installed, or no scheduler answers.
    """
    given = [f"{option} {value}" for option, value in (("--scheduler", scheduler), ("--cluster", cluster)) if value]
    if name == "local":
        if given:
            raise ValueError(f"{given[0]} needs --executor dask")
        yield LocalExecutor(workers)
        return
    if len(given) != 1:
        raise ValueError(
            f"--executor dask takes either --scheduler ADDRESS or --cluster FILE.yml{', not both' if given else ''}"
        )
    from bench.cluster.connection import connect
    from bench.cluster.executor import DaskExecutor

    with connect(scheduler, cluster) as connection:
        yield DaskExecutor(connection, workers)
