"""The executor on Dask: workers draw batches and score chunks, this process alone reads and writes the run folder."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.atomic import write_bytes
from bench.budget import Budget, MonotonicClock
from bench.cluster import remote
from bench.cluster.crew import Connection, Crew
from bench.cluster.remote import Inspection, Rows, SamplingSetup, ScoringSetup, shared_facts
from bench.crystals import Crystals, FilteredCrystals
from bench.interfaces import Generator, Task
from bench.run_folder import manifest as manifests
from bench.run_folder.shards import read_shard
from bench.sampling.sources import PreparationCost, Recipe, Request, Source, SourceBatch
from bench.scoring.tables import Chunk, keep_relaxed


@dataclass(frozen=True)
class DaskExecutor:
    """Workers of a scheduler. workers: processes of this machine, which parse files only."""

    connection: Connection
    workers: int = 2

    @property
    def name(self) -> str:
        """Dask and the scheduler's address or the cluster's file."""
        return f"dask {self.connection.where}"

    def accept(self, budget: Budget) -> None:
        """ValueError for seconds of scoring: by the clock on the wall, they would measure the network and the queue."""
        if budget.covers_scoring:
            raise ValueError("--budget-covers end-to-end counts this machine's seconds of scoring: --executor local")

    def device(self, asked: str) -> dict[str, Any]:
        """That of the first worker."""
        return Crew(self.connection, Inspection(uuid.uuid4().hex, shared_facts(), asked)).first().device

    def open(self, recipe: Recipe, generator: Generator, loaded: Callable[[Generator], None]) -> Source:
        """Sampled by workers that have the same weights as this process, where they are loaded on the CPU once."""
        replace(recipe, device="cpu").source(generator, MonotonicClock(), loaded).load()
        loaded(generator)
        card = manifests.as_json(getattr(generator, "card", None))
        return DaskSource(Crew(self.connection, SamplingSetup(uuid.uuid4().hex, shared_facts(), recipe, card)))

    @contextmanager
    def scoring(self, tasks: Sequence[Task], dataset: str) -> Iterator[DaskScorer]:
        """Workers whose tasks have the same protocol, and the same training crystals at hand, as those here."""
        protocols = {task.name: manifests.as_json(task.protocol()) for task in tasks}
        data, token = manifests.data_at_hand(dataset), uuid.uuid4().hex
        setup = ScoringSetup(token, shared_facts(), tasks, protocols, dataset, data)
        yield DaskScorer(Crew(self.connection, setup))


@dataclass(frozen=True)
class DaskSource:
    """Batches from workers, given in order: the same as `GeneratorSource` gives, whoever sampled which."""

    crew: Crew
    timed = True
    holds = None
    single_use = False

    def close(self) -> None:
        """The workers stay for others."""

    def prepare(self) -> PreparationCost:
        """What loading and warming up took the first worker. Each one does it once, before its first batch."""
        return self.crew.first().prepared

    def draws(self, requests: Iterable[Request], ahead: bool) -> Iterator[SourceBatch]:
        """Device seconds are those of the worker. Not ahead: one batch at a time, on whichever worker is free."""
        at_most = None if ahead else 1
        return (drawn for _, drawn in self.crew.map(remote.draw, requests, at_most, ordered=True))


@dataclass(frozen=True)
class DaskScorer:
    """Chunks scored by workers; their crystals go out and their rows come back over the wire."""

    crew: Crew

    def score(self, task: Task, todo: Sequence[tuple[Chunk, Path]]) -> Iterator[int]:
        """Scores the chunks into their files, in any order; gives the rows of each as it is done."""
        shard = functools.lru_cache(maxsize=1)(read_shard)  # chunks come shard by shard

        def rows() -> Iterator[Rows]:
            for chunk, part in todo:
                parts[chunk.first_row] = part
                yield Rows(task.name, cut(shard(chunk.shard), chunk), chunk.first_row)

        parts: dict[int, Path] = {}
        for sent, (table, relaxed) in self.crew.map(remote.score, rows()):
            part = parts.pop(sent.first_row)
            keep_relaxed(part, relaxed)
            write_bytes(part, table)
            yield sent.filtered.requested

    def warm_up(self, crystals: Crystals) -> None:
        """Waits for the first worker; each loads the rest with its first chunk."""
        self.crew.first()


def cut(filtered: FilteredCrystals, chunk: Chunk) -> FilteredCrystals:
    """The crystals of a chunk among those of its shard."""
    return filtered.rows(chunk.start, chunk.start + chunk.num_rows)
