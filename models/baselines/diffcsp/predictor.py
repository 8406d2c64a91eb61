"""Crystal structure prediction as a generator of the harness: structures for compositions that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrays import IntArray
from bench.crystals import Crystals
from bench.datasets import load_split
from bench.interfaces import SampleBatch
from models.baselines.diffcsp.starts import Starts, StartsFactory, with_start
from models.baselines.diffcsp.structure_prediction import predict_structures
from models.generation import DiffusionGenerator, GeneratorFactory


@dataclass(frozen=True)
class PredictorFactory:
    """Builds `DiffusionPredictor`s of any data set, number of steps and weights, by one of the named samplers.

    starts: where predictions begin, noise without.
    """

    diffusion: GeneratorFactory
    starts: StartsFactory | None = None

    def __call__(
        self, dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
    ) -> DiffusionPredictor:
        """The generator, not loaded. Arguments and errors as of `DiffusionGenerator`."""
        diffusion = self.diffusion(dataset, preset, steps, weights)
        starts = None if self.starts is None else self.starts(diffusion.dataset, diffusion.weights)
        return DiffusionPredictor(diffusion, starts)


class DiffusionPredictor:
    """A trained `StructurePrediction` as a `bench.interfaces.Generator`.

    `sample_given` predicts structures of compositions. `sample` draws the compositions from the training split: what
    the structures are worth when nothing is wrong with the compositions.
    """

    def __init__(self, diffusion: DiffusionGenerator, starts: Starts | None = None) -> None:
        self.name = diffusion.name
        self._diffusion = diffusion
        self._starts = starts
        self._train: Crystals | None = None

    def batch_size(self, device: str) -> int:
        """As of the diffusion models."""
        return self._diffusion.batch_size(device)

    @property
    def card(self) -> dict[str, Any]:
        """The weights' card, and how the sampler steps and where it begins."""
        return with_start(self._diffusion.card, self._starts)

    def load(self, device: str = "cpu") -> None:
        """Reads the weights, and what `Starts.load` needs where predictions do not begin at noise.

        Compositions are read when `sample` first needs them.
        """
        self._diffusion.load(device)
        if self._starts is not None:
            self._starts.load(device)

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """Structures for compositions of the training split, a function of both arguments, weights and steps.

        DataUnavailable where the split is not at hand; nothing is downloaded.
        """
        if self._train is None:
            self._train = load_split(self._diffusion.dataset, "train", download=False)
        chosen = np.random.default_rng(seed).choice(len(self._train), size=num_crystals)
        return self.sample_given([self._train.arrays(int(k))[0] for k in chosen], seed)

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        """A crystal for each composition, (N_i,) atomic numbers, in this order and with its atoms in theirs.

        A function of both arguments, weights, steps, threads and device. ValueError names a composition that is none.
        """
        model, steps = self._diffusion.model, self._diffusion.steps
        starts = None if self._starts is None else self._starts(compositions, seed)
        return predict_structures(model, compositions, seed, steps, starts=starts)
