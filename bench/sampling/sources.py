"""Where a model's crystals come from: a generator that samples them, or a file that holds them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from bench import model_specs
from bench.arrays import IntArray
from bench.budget import DeviceClock
from bench.crystal_io import read_crystals
from bench.crystals import FilteredCrystals
from bench.device import set_threads
from bench.errors import one_line
from bench.interfaces import Generator, SampleBatch, StructurePredictor
from bench.model_specs import ModelSpec
from bench.prediction.compositions import Targets, of_round
from bench.prediction.files import arranged
from bench.prediction.sampling import wrong_atoms
from bench.run_folder.ledger import reason_with_place
from bench.sampling.file_costs import FileCosts
from bench.sampling.usage import Meter, Usage

DEFAULT_BATCH_SIZE = {"cpu": 50, "cuda": 500}
FILE_BATCH_SIZE = 500
CPU_WARMUP_SIZE = 1  # a CPU only has to wake up
CALIBRATION_SIZE = 8  # with one crystal it tells what a batch costs from what a crystal does
ENOUGH_WARMUP_S = 5.0  # after a batch that took longer, but for the first, none is spent on the estimate alone
WARMUP_BATCH = 2**32 - 1  # a number that no batch reaches: the warm-up has a seed of its own


@dataclass(frozen=True)
class SourceBatch:
    """One batch from a source.

    handed_over: crystals or reasons that the source gave. network_evaluations: of all crystals together.
    seconds: of the device clock around it, or what a file says; None where nobody knows. usage: of the machine.
    """

    filtered: FilteredCrystals
    handed_over: int
    steps: int | None
    network_evaluations: float | None
    seconds: float | None = None
    usage: Usage | None = None


class Request(NamedTuple):
    """A batch to be drawn: number `number` of a repeat, crystals first_row .. first_row + size - 1 of it."""

    repeat: int
    number: int
    first_row: int
    size: int


@dataclass(frozen=True)
class PreparationCost:
    """What making ready took. warmup: crystals and device seconds of each batch that nobody keeps.

    energy: which counter tells the joules of batches, or why none does; empty where that was not looked for.
    compile_seconds: part of load_seconds; None of a generator that does not say it.
    """

    load_seconds: float = 0.0
    warmup: tuple[tuple[int, float], ...] = ()
    energy: str = ""
    compile_seconds: float | None = None

    def state(self) -> dict[str, Any]:
        """load_seconds, warmup_seconds, energy and compile_seconds, for the state of a folder."""
        seconds = {"load_seconds": self.load_seconds, "warmup_seconds": sum(seconds for _, seconds in self.warmup)}
        if self.compile_seconds is not None:
            seconds["compile_seconds"] = self.compile_seconds
        return {**seconds, "energy": self.energy} if self.energy else seconds


class Source(Protocol):
    """Gives crystals batch by batch; the same batch again where it is asked again."""

    @property
    def timed(self) -> bool:
        """Whether the device clock tells what a batch took."""

    @property
    def holds(self) -> int | None:
        """Crystals that there are; None where there is no end."""

    @property
    def single_use(self) -> bool:
        """Whether each repeat takes a source of its own."""

    def prepare(self) -> PreparationCost:
        """Makes ready."""

    def draws(self, requests: Iterable[Request], ahead: bool) -> Iterator[SourceBatch]:
        """The batches asked for, in order. ahead: whether the next may be asked for before the last one was given."""

    def close(self) -> None:
        """Ends what it started; it gives no more."""


def batch_seed(seed: int, repeat: int, number: int) -> int:
    """The seed of a batch, from `SeedSequence([seed, repeat, number])`: 32 bits, which every library takes."""
    return int(np.random.SeedSequence([seed, repeat, number]).generate_state(1)[0])


def declared_batch_size(generator: Generator, device: str) -> int:
    """The generator's `batch_size`, a number or a function of the device; the device's default where it has none."""
    declared: Any = getattr(generator, "batch_size", None)
    size = declared(device) if callable(declared) else declared
    if size is None:
        return DEFAULT_BATCH_SIZE[device]
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"{generator.name}: batch_size is {size!r}, not a whole number above 0")
    return size


@dataclass
class GeneratorSource:
    """Samples with a generator. loaded: called once the weights are there, before anything is sampled.

    metered: whether batches say what was used of this machine, which a clock that is not the machine's makes senseless.
    compositions: (N_i,) atomic numbers of what structures are predicted for, row by row and again from the first; None
    where the model chooses them itself.
    """

    name: str
    generator: Generator
    device: str
    threads: int
    seed: int
    warmup_sizes: tuple[int, ...]
    clock: DeviceClock
    loaded: Callable[[Generator], None] = lambda generator: None
    metered: bool = False
    meter: Meter | None = None
    compositions: Sequence[IntArray] | None = None
    timed = True
    holds = None
    single_use = False

    def prepare(self) -> PreparationCost:
        """Loads the weights and samples batches that nobody keeps."""
        self.meter = Meter.of(self.device, self.threads) if self.metered else None
        started = time.perf_counter()
        self.load()
        load_seconds = time.perf_counter() - started
        self.loaded(self.generator)
        warmup: list[tuple[int, float]] = []
        for size in self.warmup_sizes:
            if len(warmup) > 1 and warmup[-1][1] > ENOUGH_WARMUP_S:
                break
            self.clock.start()
            self._sample(size, batch_seed(self.seed, 0, WARMUP_BATCH), 0)
            warmup.append((size, self.clock.stop()))
        note = self.meter.energy_note if self.meter else ""
        return PreparationCost(load_seconds, tuple(warmup), note, getattr(self.generator, "compile_seconds", None))

    def close(self) -> None:
        """Nothing was started."""

    def load(self) -> None:
        """Loads the weights and sets the threads, for which code is compiled."""
        set_threads(self.threads)
        with _as_value_error(f"{self.name}: loading failed"):
            self.generator.load(self.device)
        set_threads(self.threads)

    def draws(self, requests: Iterable[Request], ahead: bool) -> Iterator[SourceBatch]:
        """One after the other, each under the device clock."""
        for request in requests:
            if self.meter is not None:
                self.meter.start()
            self.clock.start()
            drawn = self.draw(*request)
            seconds = self.clock.stop()
            yield replace(drawn, seconds=seconds, usage=self.meter.stop() if self.meter is not None else None)

    def draw(self, repeat: int, number: int, first_row: int, size: int) -> SourceBatch:
        """A batch sampled with its own seed. Crystals that the generator owes have a reason."""
        batch = self._sample(size, batch_seed(self.seed, repeat, number), first_row)
        filtered, given = batch.filtered(), batch.requested
        if given < size:
            owed = dict.fromkeys(range(given, size), f"the generator gave {given} of {size} crystals")
            filtered = FilteredCrystals(filtered.crystals, filtered.indices, {**filtered.reasons, **owed})
        return SourceBatch(filtered, given, batch.steps, float(np.sum(batch.network_evaluations)))

    def _sample(self, size: int, seed: int, first_row: int) -> SampleBatch:
        asked = None if self.compositions is None else of_round(self.compositions, first_row, size)
        method = "sample" if asked is None else "sample_given"
        with _as_value_error(f"{self.name}: sampling failed"):
            if asked is None:
                batch = self.generator.sample(num_crystals=size, seed=seed)
            else:
                batch = cast(StructurePredictor, self.generator).sample_given(compositions=asked, seed=seed)
        if not isinstance(batch, SampleBatch):
            raise ValueError(f"{self.name}: {method} gave {type(batch).__name__}, not a SampleBatch")
        if batch.requested > size:
            raise ValueError(f"{self.name}: {method} gave {batch.requested} crystals where {size} were asked for")
        if asked is not None and (wrong := wrong_atoms(batch, asked)):
            raise ValueError(f"{self.name}: of {method}, {wrong}")
        return batch


@dataclass(frozen=True)
class Recipe:
    """A model by name, and how its batches are sampled. It pickles, whatever its generator does.

    fresh: in a process of its own, each repeat in another, where the executor samples on this machine. compositions:
    as of `GeneratorSource`.
    """

    name: str
    spec: ModelSpec
    dataset: str
    preset: str
    device: str
    threads: int
    seed: int
    warmup_sizes: tuple[int, ...]
    fresh: bool = False
    compositions: Sequence[IntArray] | None = None

    def build(self) -> Generator:
        """The generator, not yet loaded."""
        return model_specs.build_generator(self.spec, self.dataset, self.preset)

    def source(
        self,
        generator: Generator,
        clock: DeviceClock,
        loaded: Callable[[Generator], None],
        metered: bool = True,
    ) -> GeneratorSource:
        """Its batches, sampled in this process. metered: with what they used of the machine."""
        return GeneratorSource(
            self.name,
            generator,
            self.device,
            self.threads,
            self.seed,
            self.warmup_sizes,
            clock,
            loaded,
            metered,
            compositions=self.compositions,
        )


@contextmanager
def _as_value_error(what: str) -> Iterator[None]:
    """Makes a ValueError of whatever goes wrong in a generator's own code; its ValueErrors speak for themselves."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{what}: {one_line(error, limit=None)}") from error


@dataclass(frozen=True)
class FileSource:
    """Hands out crystals that were read from a file. What each cost is None where nobody said it.

    remarks: what was not read as it stands in the file -> of how many crystals.
    """

    filtered: FilteredCrystals
    costs: FileCosts
    remarks: Mapping[str, int] = field(default_factory=dict)
    timed = False
    single_use = False

    def close(self) -> None:
        """Nothing was started."""

    @property
    def holds(self) -> int:
        """Places in the file, crystals or not, and those that it owes."""
        return self.filtered.requested

    @classmethod
    def read(
        cls, path: Path, meta: Path | None = None, workers: int = 1, predicts: Targets | None = None
    ) -> FileSource:
        """The crystals of a file or folder, with what the file itself and a JSON file (`FileCosts`) say of their cost.

        predicts: the compositions that they are structures of, in whose order they come then.
        Warns of what was not read as it stands there. ValueError where the file holds no crystal, or more than were
        asked for, or the meta file something else; or a structure of another composition.
        """
        costs = FileCosts() if meta is None else FileCosts.read(meta)
        result = read_crystals(path, workers=workers, every_evaluation=predicts is not None)
        if predicts is not None:
            result = arranged(result, path, predicts)
        places = result.filtered.requested
        reasons = {
            place: reason_with_place(reason, result.names[place]) for place, reason in result.filtered.reasons.items()
        }
        asked = places if costs.num_samples is None else costs.num_samples
        if asked < places:
            raise ValueError(f"{meta}: num_samples is {asked}, but {path} holds {places} crystals")
        owed = f"{path.name} holds {places} of the {asked} crystals asked for"
        reasons |= dict.fromkeys(range(places, asked), owed)
        if costs.sampling_seconds is None:
            costs = replace(costs, sampling_seconds=result.sampling_seconds)
        for remark, count in result.remarks.items():
            warnings.warn(f"{path.name}, {count} of {places} crystals: {remark}", stacklevel=2)
        for remark, count in result.unread.items():
            warnings.warn(f"{path.name}: {count} {remark}", stacklevel=2)
        filtered = FilteredCrystals(result.filtered.crystals, result.filtered.indices, reasons)
        return cls(filtered, costs, {**result.remarks, **result.unread})

    def prepare(self) -> PreparationCost:
        """Nothing to do: the crystals are there."""
        return PreparationCost(self.costs.load_seconds or 0.0)

    def draws(self, requests: Iterable[Request], ahead: bool) -> Iterator[SourceBatch]:
        """Those places of the file."""
        return (self.draw(*request) for request in requests)

    def draw(self, repeat: int, number: int, first_row: int, size: int) -> SourceBatch:
        """The places first_row .. first_row + size - 1."""
        part = self.filtered.rows(first_row, first_row + size)
        evaluations, seconds = self.costs.network_evaluations, self.costs.sampling_seconds
        return SourceBatch(
            part,
            size,
            self.costs.steps,
            None if evaluations is None else evaluations * size,
            None if seconds is None else seconds * size / self.holds,
        )
