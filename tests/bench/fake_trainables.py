"""Toy models that `bench learn` trains, with weights in a text file: what tests and worker processes import."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from fake_generators import Fake

from bench.interfaces import SampleBatch

BATCHES = 4


class FakeSampler(Fake):
    """Crystals by the seed and the weights."""

    name = "fake-sampler"

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.weights = weights / "weights.txt"

    def load(self, device: str) -> None:
        super().load(device)
        self.shift = round(float(self.weights.read_text()) * 1000) % 1000

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return super().sample(num_crystals, (seed + self.shift) % 2**32)


class FakeTrainable:
    """Learns one number. A checkpoint after every step, of everything that the next one depends on."""

    name, sampler = "fake", "fake_trainables:FakeSampler"
    few_steps: str | None = None

    def train(self, order, timer):
        path = order.folder / "last.json"
        value, step = float(np.random.default_rng(order.seed).normal()), 0
        if path.exists():
            saved = json.loads(path.read_text())
            value, step = saved["value"], saved["step"]
            timer.restore(saved["timer"])
        while not timer.over:
            batch = float(np.random.default_rng([order.seed, step]).normal())
            timer.start()
            value += 0.1 * order.rate_factor * (batch - value)
            step += 1
            timer.stop(lambda folder: (folder / "weights.txt").write_text(repr(value)))  # noqa: B023
            self.keep(path, {"value": value, "step": step, "timer": timer.state()})

    def keep(self, path, content):
        path.with_suffix(".new").write_text(json.dumps(content))
        path.with_suffix(".new").replace(path)


class TwoSamplers(FakeTrainable):
    """With a sampler of few steps."""

    name, few_steps = "two", "fake_trainables:FakeSampler"


class Forgetful(FakeTrainable):
    """Keeps the weights, but not the place in the data nor the time."""

    def keep(self, path, content):
        super().keep(path, {"value": content["value"], "step": 0, "timer": NOTHING_SPENT})


class Unseeded(FakeTrainable):
    """Takes its first weights from global chance."""

    def train(self, order, timer):
        import random
        from dataclasses import replace

        super().train(replace(order, seed=random.randrange(1000)), timer)


class Deaf(FakeTrainable):
    """Neither hears that its time is over, nor of the learning rate."""

    def train(self, order, timer):
        value = order.seed
        for step in range(30):
            timer.start()
            timer.stop(lambda folder: (folder / "weights.txt").write_text(str(value + step)))  # noqa: B023


class Lazy(FakeTrainable):
    """Saves nothing."""

    def train(self, order, timer):
        while not timer.over:
            timer.start()
            timer.stop(lambda folder: None)


class Early(FakeTrainable):
    """Stops on its own."""

    def train(self, order, timer):
        timer.start()
        timer.stop(lambda folder: (folder / "weights.txt").write_text("1"))


NOTHING_SPENT = {"seconds": 0.0, "cpu_seconds": 0.0, "steps": 0, "passed": []}
