"""DiffCSP's crystal structure prediction: joint diffusion of lattice and coordinates, the composition given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.arrays import FloatArray, IntArray
from bench.interfaces import SampleBatch
from models.baselines.diffcsp.diffusion import DiffCSPConfig, OneNetwork
from models.baselines.diffcsp.sampler import CrystalState, SamplerSettings, sample_predictor_corrector
from models.baselines.diffcsp.starts import START_SHARE
from models.baselines.structure_controls import Structure
from models.cspnet import EvaluationCounter
from models.denoiser import Denoiser
from models.denoising_loss import denoising_losses
from models.dense import DenseBatch, buckets, drawn_compositions, unpack
from models.diffusion import Noise, SeededNoise, StepSchedule, add_noise, perturb_coords, torch_seed
from models.sampling import StepCallback, usual_sampling

# Few steps are shorter where there is more noise, where cells and places are chosen; see docs/measurements.
FEW_STEPS_POWER = 0.8


class StructurePrediction(OneNetwork):
    """p(lattice, coordinates | composition): DiffCSP's network, which always sees the clean types. Jiao et al. 2023.

    The network's output for types is not used; weights of both tasks fit each other.
    """

    def __init__(self, config: DiffCSPConfig) -> None:
        super().__init__(config)
        self._seen: list[DenseBatch] = []

    def losses(self, batch: DenseBatch, noise: Noise, times: Tensor | None = None) -> dict[str, Tensor]:
        """`denoising_losses` of lattice and coordinates. times: (B,) in 1..T; drawn uniformly when not given."""
        clean = self._one_hot(batch.atomic_numbers), batch.frac_coords, batch.lattices
        weights = self.config.loss_weights
        return denoising_losses(self.network, self.loss_table, clean, noise, weights, times, True)

    def stage_input(self, stage: str, crystals: list[DenseBatch]) -> list[DenseBatch]:
        """The crystals as they are; `sample_in_training` predicts those that were seen last."""
        self._seen = crystals
        return crystals

    def sample_in_training(
        self, num_crystals: int, seed: int, max_steps: int, num_atoms_probabilities: FloatArray
    ) -> SampleBatch:
        """Structures for compositions drawn from the crystals that `stage_input` saw last, the validation split."""
        compositions = drawn_compositions(self._seen, num_crystals, seed)
        steps, settings = usual_sampling(self.config, max_steps)
        return predict_structures(self, compositions, seed, steps, settings)

    @torch.no_grad()
    def sample(
        self,
        atomic_numbers: Tensor,
        noise: Noise,
        steps: int,
        settings: SamplerSettings | None = None,
        callback: StepCallback | None = None,
        start: DenseBatch | None = None,
    ) -> DenseBatch:
        """Structures of these compositions, (B, N), in `steps` steps: all of 1..T, or fewer by
        `strided_times` with `FEW_STEPS_POWER`.

        settings: those of the configuration when None. callback: as of `sample_predictor_corrector`. start: structures
        with noise of the time `START_SHARE` T are where it begins, and even steps go from there (Meng et al. 2022,
        SDEdit, for images).
        """
        settings = settings or self.config.sampler
        batch, num_atoms = atomic_numbers.shape
        lattices = noise.normal("lattice", (batch, 3, 3))
        if start is None:
            schedule = StepSchedule.strided(self.gaussian, self.coords, steps, FEW_STEPS_POWER)
            frac_coords = noise.uniform("coord", (batch, num_atoms, 3))
        else:
            time = self.start_time
            schedule = StepSchedule.strided(self.gaussian, self.coords, min(steps, time), latest=time)
            lattices = add_noise(start.lattices, lattices, float(self.gaussian.alphas_cumprod[time]))
            eps = noise.normal("coord", (batch, num_atoms, 3))
            frac_coords = perturb_coords(start.frac_coords, eps, float(self.coords.sigmas[time]))
        state = CrystalState(self._one_hot(atomic_numbers).to(lattices.dtype), frac_coords, lattices)
        denoiser = Denoiser(self.network, bounds=replace(settings.bounds(num_atoms), entries=None))
        end = sample_predictor_corrector(denoiser, state, schedule, settings, noise, callback, types_given=True)
        return DenseBatch(atomic_numbers, end.frac_coords, end.lattices)

    @property
    def start_time(self) -> int:
        """The time whose noise a structure gets from which a prediction begins."""
        return max(1, round(START_SHARE * self.config.num_steps))

    def _one_hot(self, atomic_numbers: Tensor) -> Tensor:
        types = self.config.network.node_dim
        return F.one_hot(atomic_numbers - 1, types).to(self.network.node_embedding.weight.dtype)


def predict_structures(
    model: StructurePrediction,
    compositions: Sequence[IntArray],
    seed: int,
    steps: int,
    settings: SamplerSettings | None = None,
    callback: StepCallback | None = None,
    starts: Sequence[Structure | None] | None = None,
) -> SampleBatch:
    """A crystal for each composition, one bucket of equal N after another.

    compositions: atomic numbers, (N_i,) each. The atoms of a crystal have their order. What a network makes not finite
    gets a reason. callback: is told besides which of the crystals asked for are in the bucket, "indices" (B,).
    starts: where each begins, None for noise; all at noise without.
    """
    numbers = [np.asarray(composition, dtype=np.int64) for composition in compositions]
    check_compositions(numbers, model.config.network.node_dim)
    device = next(model.network.parameters()).device
    noise = SeededNoise.from_seed(torch_seed(seed), device)
    evaluations = np.zeros(len(numbers), dtype=np.int64)
    batches, places = [], []
    at_noise = np.array([starts is None or starts[k] is None for k in range(len(numbers))], dtype=bool)
    sizes = np.array([len(row) for row in numbers], dtype=np.int64)
    for chosen in (np.flatnonzero(at_noise), np.flatnonzero(~at_noise)):
        for _, bucket in buckets(sizes[chosen]):
            indices = chosen[bucket]
            given = torch.from_numpy(np.stack([numbers[k] for k in indices])).to(device)
            begun = [] if starts is None else [start for k in indices if (start := starts[k]) is not None]
            start = _as_batch(given, begun, noise.dtype) if begun else None
            with EvaluationCounter(model.network) as counter:
                batches.append(model.sample(given, noise, steps, settings, callback, start))
            evaluations[indices] = counter.per_crystal
            places.append(indices)
    found = unpack(batches, places)
    return SampleBatch(found.crystals, steps, evaluations, dict(found.reasons))


def _as_batch(atomic_numbers: Tensor, starts: Sequence[Structure], dtype: torch.dtype) -> DenseBatch:
    """The structures in which predictions of these compositions, (B, N), begin."""
    arrays = (np.stack(part) for part in zip(*starts, strict=True))
    return DenseBatch(atomic_numbers, *(torch.from_numpy(part).to(atomic_numbers.device, dtype) for part in arrays))


def check_compositions(compositions: Sequence[IntArray], types: int) -> None:
    """ValueError names the first composition that is empty, no list of whole numbers, or has an unknown element."""
    for place, numbers in enumerate(compositions):
        if numbers.ndim != 1 or len(numbers) == 0:
            raise ValueError(f"composition {place}: must be a list of atomic numbers, one an atom, not {numbers!r}")
        if not ((numbers >= 1) & (numbers <= types)).all():
            wrong = numbers[(numbers < 1) | (numbers > types)][0]
            raise ValueError(f"composition {place}: atomic number {wrong} is not in 1 to {types}")
