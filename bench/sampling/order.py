"""In what order the models of a run are sampled: one after the other, or a batch of each in turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Protocol

from bench.atomic import write_json
from bench.datasets.files import DataUnavailable
from bench.executor import Executor
from bench.progress import SaidOnce, say
from bench.run_folder.shards import SampleFolder
from bench.sampling.loop import Sampling
from bench.store import MANIFEST, Run


class RunModel(Protocol):
    """A model of a run, whose folders are filled step by step."""

    @property
    def name(self) -> str:
        """Its name in the run."""

    def batches(self, how: Sampling, run: Run, executor: Executor) -> Iterator[None]:
        """Fills its folders from where they stand, a batch each step."""


def sample_models(
    run: Run, models: list[RunModel], executor: Executor, score: Callable[[SampleFolder, int], float] | None
) -> None:
    """Samples all models, in the order that the manifest says; takes them out of the list.

    score: as of `Sampling`. A model without data here is skipped, and the manifest says why. ValueError where the
    models are to be taken in turns and the executor samples on other machines.
    """
    manifest = run.manifest
    in_turns = manifest.get("in_turns", False)
    if in_turns and executor.name != "local":
        raise ValueError("--in-turns takes the models of one machine in turns; leave out --executor, or --in-turns")
    busy = SaidOnce("the machine is busy: times will not count")

    def batches_of(model: RunModel) -> Generator[None]:
        entry = manifest["models"][model.name]
        size, default = entry["batch_size"], manifest["default_budget"]
        entry.pop("skipped", None)
        try:
            how = Sampling(model.name, run.budget, size, score, default, busy, alone=not in_turns)
            yield from model.batches(how, run, executor)
        except DataUnavailable as error:
            entry["skipped"] = str(error)
            say(f"{model.name}: skipped: {error}")
        write_json(run.root / MANIFEST, manifest)

    with ExitStack() as stack:
        waiting: deque[Generator[None]] = deque()
        while models or waiting:
            if models and (in_turns or not waiting):  # one after the other: its weights leave before the next ones come
                waiting.append(stack.enter_context(closing(batches_of(models.pop(0)))))
                continue
            batches = waiting.popleft()
            with suppress(StopIteration):
                next(batches)
                waiting.append(batches)
