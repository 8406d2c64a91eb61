"""Crystals of all sizes from a model that samples one size at a time: N ~ p(N), line 1 of CrysLDM's Algorithm 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.interfaces import SampleBatch
from models.cspnet import CSPNet, EvaluationCounter
from models.dense import DenseBatch, buckets, unpack
from models.diffusion import Noise, SeededNoise

# Called after every step with the number of steps done, "step", the coordinates, "x", and what else the sampler holds.
# The tensors are not changed afterwards: a trajectory may keep them.
StepCallback = Callable[[Mapping[str, Any]], None]


class SizedSampler(Protocol):
    """A diffusion model that samples crystals of one size N. weak: a second network that guides it, or None."""

    network: CSPNet
    weak: CSPNet | None

    def sample(
        self,
        num_crystals: int,
        num_atoms: int,
        noise: Noise,
        steps: int,
        settings: Any = None,
        callback: StepCallback | None = None,
    ) -> DenseBatch:
        """(B) crystals of N atoms. settings: how the sampler steps, those of the model's configuration when None."""


def drawn_sizes(num_atoms_probabilities: FloatArray, num_crystals: int, seed: int) -> tuple[IntArray, int]:
    """(num_crystals,) numbers of atoms, N ~ p(N), and a seed for torch's generator of all that comes after.

    num_atoms_probabilities: (N_max + 1,), entry n is p(N = n).
    """
    size_seed, noise_seed = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    rng = np.random.default_rng(int(size_seed))
    num_atoms = rng.choice(len(num_atoms_probabilities), size=num_crystals, p=num_atoms_probabilities)
    return num_atoms, int(noise_seed >> np.uint64(1))


def usual_sampling(config: Any, max_steps: int) -> tuple[int, Any]:
    """Steps, at most so many, and the settings with which a configuration's sampler takes them."""
    steps, settings = min(max_steps, config.num_steps), config.sampler
    return steps, settings.for_few_steps() if steps < config.num_steps else settings


def sample_crystals(
    model: SizedSampler,
    num_atoms_probabilities: FloatArray,
    num_crystals: int,
    seed: int,
    steps: int,
    settings: Any = None,
    callback: StepCallback | None = None,
) -> SampleBatch:
    """Crystals with N ~ p(N), one bucket of equal N after another. What a network makes not finite gets a reason.

    num_atoms_probabilities: as of `drawn_sizes`. settings: as of `SizedSampler.sample`. callback: is told besides which
    of the crystals asked for are in the bucket, "indices" (B,).
    """
    num_atoms, noise_seed = drawn_sizes(num_atoms_probabilities, num_crystals, seed)
    noise = SeededNoise.from_seed(noise_seed, next(model.network.parameters()).device)
    evaluations = np.zeros(num_crystals, dtype=np.int64)
    batches, places = [], []
    networks = [model.network] if model.weak is None else [model.network, model.weak]
    for n, indices in buckets(num_atoms):
        told = None if callback is None else _with_indices(callback, indices)
        with EvaluationCounter(*networks) as counter:
            batches.append(model.sample(len(indices), n, noise, steps, settings, told))
        evaluations[indices] = counter.per_crystal
        places.append(indices)
    found = unpack(batches, places)
    return SampleBatch(found.crystals, steps, evaluations, dict(found.reasons))


def _with_indices(callback: StepCallback, indices: IntArray) -> StepCallback:
    return lambda state: callback({**state, "indices": indices})
