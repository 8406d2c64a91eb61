"""What a batch of a model depends on, apart from the machine that samples it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import registry
from bench.budget import DeviceClock
from bench.interfaces import Generator
from bench.registry import ModelSpec
from bench.sampling.sources import GeneratorSource


@dataclass(frozen=True)
class Recipe:
    """A model by name, and how its batches are sampled. It pickles, whatever its generator does."""

    name: str
    spec: ModelSpec
    dataset: str
    preset: str
    device: str
    threads: int
    seed: int
    warmup_sizes: tuple[int, ...]

    def build(self) -> Generator:
        """The generator, not yet loaded."""
        return registry.build_generator(self.spec, self.dataset, self.preset)

    def source(
        self, generator: Generator, clock: DeviceClock, loaded: Callable[[Generator], None], metered: bool = True
    ) -> GeneratorSource:
        """Its batches, sampled in this process. metered: with what they used of the machine."""
        return GeneratorSource(
            self.name, generator, self.device, self.threads, self.seed, self.warmup_sizes, clock, loaded, metered
        )
