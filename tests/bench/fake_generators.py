"""Generators for the tests of the harness. None imports torch."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from bench.crystals import Crystals, filter_crystals
from bench.datasets import DataUnavailable
from bench.interfaces import SampleBatch, TrainingPlan


def random_crystals(num_crystals: int, seed: int) -> Crystals:
    """CsCl-like cells of two atoms with elements and sizes that the seed fixes."""
    rng = np.random.default_rng(seed)
    return Crystals(
        num_atoms=np.full(num_crystals, 2),
        atomic_numbers=rng.integers(1, 84, 2 * num_crystals),
        frac_coords=np.tile([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]], (num_crystals, 1)),
        lattices=rng.uniform(3, 5, (num_crystals, 1, 1)) * np.eye(3),
    )


class Fake:
    """Instant crystals. FAKE_BATCH_SECONDS makes it slow, FAKE_WEIGHTS changes its weights."""

    name = "fake"
    batch_size = 5

    def __init__(self) -> None:
        self.card = {"sha256": os.environ.get("FAKE_WEIGHTS", "abc")}
        self.device: str | None = None

    def load(self, device: str) -> None:
        self.device = device

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        assert self.device is not None
        time.sleep(float(os.environ.get("FAKE_BATCH_SECONDS", "0")))
        return SampleBatch(random_crystals(num_crystals, seed), 10, np.full(num_crystals, 20))


class Noted(Fake):
    """Writes into FAKE_LOG whose batch of how many crystals is sampled, and by which process."""

    name = "noted"

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        with open(os.environ["FAKE_LOG"], "a") as file:
            file.write(f"{self.name} {num_crystals} {os.getpid()}\n")
        return super().sample(num_crystals=num_crystals, seed=seed)


class NotedToo(Noted):
    """Another one."""

    name = "noted-too"


class WithSteps(Fake):
    """Takes what ours take."""

    name = "with-steps"

    def __init__(self, dataset: str, preset: str, steps: int | None = None) -> None:
        super().__init__()
        self.options = (dataset, preset, steps)


class Tiny(Fake):
    """Large batches of crystals of one atom: a million of them in seconds."""

    name = "tiny"
    batch_size = 1000

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        ones = np.ones(num_crystals, dtype=int)
        crystals = Crystals(ones, ones, np.zeros((num_crystals, 3)), np.tile(3 * np.eye(3), (num_crystals, 1, 1)))
        return SampleBatch(crystals, None, np.zeros(num_crystals))


class Wide(Tiny):
    """Batches that fill a shard each."""

    batch_size = 2500


class NotFinite(Fake):
    """A network that gives NaN for every third crystal."""

    name = "not-finite"

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        good = random_crystals(num_crystals, seed)
        lattices = np.array(good.lattices)
        lattices[::3] = np.nan
        found = filter_crystals(good.num_atoms, good.atomic_numbers, good.frac_coords, lattices)
        return SampleBatch(found.crystals, 10, np.full(num_crystals, 20), dict(found.reasons))


class NothingAtAll(Fake):
    """No crystal exists, ever."""

    name = "nothing-at-all"

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        reasons = dict.fromkeys(range(num_crystals), "the network gave NaN")
        return SampleBatch(Crystals.empty(), 10, np.full(num_crystals, 20), reasons)


class Short(Fake):
    """Hands over one crystal fewer than asked for."""

    name = "short"

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return super().sample(num_crystals=num_crystals - 1, seed=seed)


class CorruptWeights(Fake):
    """Cannot be loaded."""

    name = "corrupt"

    def load(self, device: str) -> None:
        raise ValueError("weights.safetensors: corrupt weights")


class Buggy(Fake):
    """Its own code fails in the third batch (the first is the warm-up)."""

    name = "buggy"
    calls = 0

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        self.calls += 1
        if self.calls == 3:
            raise IndexError("list index out of range")
        return super().sample(num_crystals=num_crystals, seed=seed)


class NoData(Fake):
    """A control whose training crystals are not there."""

    name = "no-data"

    def load(self, device: str) -> None:
        raise DataUnavailable("Perov-5 train: not at hand")


trained: dict[str, object] = {}


def train(plan: TrainingPlan, **options: object) -> Path:
    """A trainer that only notes what it was asked for."""
    trained.update(vars(plan), **options)
    return Path("weights.safetensors")


class TakesNoSeed:
    """No generator: has no load and sample."""

    name = "none"


def die_once() -> None:
    """Kills this process, if it is the first to come here; FAKE_DEATH names the file that says so."""
    if "FAKE_DEATH" in os.environ:
        with suppress(FileExistsError), open(os.environ["FAKE_DEATH"], "x"):
            os.kill(os.getpid(), signal.SIGKILL)


class Dying(Fake):
    """Fake, but the first process in its second batch after the warm-up is killed in it."""

    calls = 0

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        self.calls += 1
        if self.calls > 3:
            die_once()
        return super().sample(num_crystals=num_crystals, seed=seed)
