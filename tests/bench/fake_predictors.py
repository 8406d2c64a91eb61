"""Generators that predict structures, for the tests of the harness. None imports torch."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.arrays import IntArray
from bench.crystals import Crystals
from bench.datasets import load_split
from bench.interfaces import SampleBatch


class Knows:
    """Knows the test split and perturbs it; structures of one composition are handed out in turn."""

    name = "knows"
    batch_size = 3
    noise = 0.002

    def __init__(self, dataset: str = "perov5") -> None:
        self.dataset = dataset
        self.card = {"sha256": "abc"}

    def load(self, device: str) -> None:
        split = load_split(self.dataset, "test")
        self.known: dict[bytes, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        for b in range(len(split)):
            numbers, frac_coords, lattice = split.arrays(b)
            self.known[np.sort(numbers).tobytes()].append((frac_coords[np.argsort(numbers, kind="stable")], lattice))

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        raise ValueError(f"{self.name} predicts structures for compositions: `bench csp` asks it for them")

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        rng = np.random.default_rng(seed)
        parts = []
        for numbers in compositions:
            frac_coords, lattice = self.known[np.sort(numbers).tobytes()][0]
            noise = self.noise * rng.standard_normal(frac_coords.shape)
            parts.append(Crystals(np.array([len(numbers)]), numbers, frac_coords + noise, lattice[None]))
        return SampleBatch(Crystals.concatenate(parts), 10, np.full(len(compositions), 10))


class Lost(Knows):
    """No crystal for the first composition of each batch."""

    name = "lost"

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        rest = super().sample_given(compositions[1:], seed) if len(compositions) > 1 else None
        crystals = Crystals.empty() if rest is None else rest.crystals
        return SampleBatch(crystals, 10, np.full(len(compositions), 10), {0: "the network gave NaN"})


class Elsewhere(Knows):
    """Atoms in a heap: no structure matches."""

    name = "elsewhere"

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        sizes = [len(numbers) for numbers in compositions]
        coords = np.concatenate([np.linspace(0, 0.2, size)[:, None] * [[1, 1, 1]] for size in sizes])
        lattices = np.tile(np.diag([2.0, 9.0, 17.0]), (len(sizes), 1, 1))
        crystals = Crystals(np.array(sizes), np.concatenate(compositions), coords, lattices)
        return SampleBatch(crystals, 10, np.full(len(sizes), 10))


class OtherAtoms(Knows):
    """Gives helium whatever is asked for."""

    name = "other-atoms"

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        count = len(compositions)
        ones = np.ones(count, dtype=int)
        crystals = Crystals(ones, 2 * ones, np.zeros((count, 3)), np.tile(3 * np.eye(3), (count, 1, 1)))
        return SampleBatch(crystals, 10, np.full(count, 10))


class OtherOrder(Knows):
    """Gives the right atoms the other way round."""

    name = "other-order"

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        return super().sample_given([numbers[::-1] for numbers in compositions], seed)


class DiesOnce(Knows):
    """Kills its process in the batch of that number, the warm-up among them, unless the file FAKE_DIED is there."""

    name = "dies-once"
    calls = 0

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        self.calls += 1
        died = Path(os.environ["FAKE_DIED"])
        if self.calls == 4 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample_given(compositions, seed)
