"""DiffCSP for ab initio generation: joint diffusion of lattice, coordinates and one-hot types in feature space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.arrays import FloatArray
from bench.interfaces import SampleBatch
from models.baselines.diffcsp.sampler import SamplerSettings, initial_state, sample_predictor_corrector
from models.cspnet import CSPNet, CSPNetConfig
from models.denoiser import Denoiser
from models.denoising_loss import denoising_losses, loss_table
from models.dense import DenseBatch
from models.diffusion import Noise, StepSchedule, coord_schedule, cosine_schedule
from models.guidance import guide_of
from models.sampling import StepCallback, sample_crystals, usual_sampling
from models.type_posterior import LoneAtoms


@dataclass(frozen=True)
class DiffCSPConfig:
    """Everything a DiffCSP is made from but its weights.

    num_steps: T. loss_weights: of lattice, coordinates and types, and of the cross entropy of a posterior head.
    """

    network: CSPNetConfig = field(default_factory=CSPNetConfig)
    num_steps: int = 1000
    sigma_range: tuple[float, float] = (0.005, 0.5)
    loss_weights: tuple[float, ...] = (1.0, 1.0, 20.0)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)


class OneNetwork(nn.Module):
    """One CSPNet with its schedules, trained in one stage: what both tasks of DiffCSP have. A `TrainableNetwork`
    but for its losses and samples.
    """

    loss_table: Tensor

    def __init__(self, config: DiffCSPConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CSPNet(config.network)
        self.gaussian = cosine_schedule(config.num_steps)
        self.coords = coord_schedule(config.num_steps, *config.sigma_range)
        self.register_buffer("loss_table", loss_table(self.gaussian, self.coords), persistent=False)

    @abstractmethod
    def losses(self, batch: DenseBatch, noise: Noise, times: Tensor | None = None) -> dict[str, Tensor]:
        """The losses of a batch by name. times: (B,) in 1..T; drawn uniformly when not given."""

    def trained_part(self, stage: str) -> nn.Module:
        """The network, in its only stage."""
        return self.network

    def compiled_parts(self, stage: str) -> list[nn.Module]:
        """The network."""
        return [self.network]

    def stage_input(self, stage: str, crystals: list[DenseBatch]) -> list[DenseBatch]:
        """The crystals as they are."""
        return crystals

    def fit_statistics(self, stage: str, train: list[DenseBatch], seed: int) -> None:
        """Nothing: no number of the model is taken from the data."""

    def stage_losses(self, stage: str, batch: DenseBatch, noise: Noise, progress: float) -> dict[str, Tensor]:
        """`losses`, the same all the time."""
        return self.losses(batch, noise)


class DiffCSP(OneNetwork):
    """The network with its schedules: training losses, and samples of one size N. Jiao et al. 2023.

    type_frequencies: (types,) of the training data, which guidance alone needs; not part of the weights.
    """

    type_frequencies: Tensor

    def __init__(self, config: DiffCSPConfig) -> None:
        super().__init__(config)
        self.weak: CSPNet | None = None
        self.register_buffer("type_frequencies", torch.ones(config.network.node_dim), persistent=False)

    def losses(self, batch: DenseBatch, noise: Noise, times: Tensor | None = None) -> dict[str, Tensor]:
        """`denoising_losses` with one-hot types as nodes. times: (B,) in 1..T; drawn uniformly when not given."""
        types = batch.atomic_numbers - 1
        one_hot = F.one_hot(types, self.config.network.node_dim).to(batch.frac_coords.dtype)
        clean, weights = (one_hot, batch.frac_coords, batch.lattices), self.config.loss_weights
        return denoising_losses(self.network, self.loss_table, clean, noise, weights, times, types=types)

    def fit_statistics(self, stage: str, train: list[DenseBatch], seed: int) -> None:
        """The frequencies of types, where the network has a posterior head; otherwise nothing."""
        if self.network.head is not None:
            self.fit_head(train)

    def fit_head(self, train: Sequence[DenseBatch]) -> None:
        """Sets the closed form of the network's posterior head from the training crystals."""
        assert self.network.head is not None
        numbers = torch.cat([batch.atomic_numbers.flatten() for batch in train])
        types = self.config.network.node_dim
        self.network.head.fit(torch.bincount(numbers - 1, minlength=types), torch.eye(types), 0.0)

    def lone_atoms(self) -> LoneAtoms:
        """One-hot types by their frequency."""
        if self.network.head is not None:
            return self.network.head.lone_atoms()
        return LoneAtoms(torch.eye(len(self.type_frequencies)).to(self.type_frequencies), self.type_frequencies.log())

    def sample_in_training(
        self, num_crystals: int, seed: int, max_steps: int, num_atoms_probabilities: FloatArray
    ) -> SampleBatch:
        """Crystals of the weights as they are, as `diffcsp@STEPS` samples them."""
        steps, settings = usual_sampling(self.config, max_steps)
        return sample_crystals(self, num_atoms_probabilities, num_crystals, seed, steps, settings)

    @torch.no_grad()
    def sample(
        self,
        num_crystals: int,
        num_atoms: int,
        noise: Noise,
        steps: int,
        settings: SamplerSettings | None = None,
        callback: StepCallback | None = None,
    ) -> DenseBatch:
        """(B) crystals of N atoms in `steps` steps: all of 1..T, or evenly strided with the same marginals.

        settings: those of the configuration when None. callback: as of `sample_predictor_corrector`.
        """
        settings = settings or self.config.sampler
        schedule = StepSchedule.strided(self.gaussian, self.coords, steps)
        state = initial_state(noise, num_crystals, num_atoms, self.config.network.node_dim)
        denoiser = Denoiser(self.network, guide_of(self, settings.guidance), settings.bounds(num_atoms))
        end = sample_predictor_corrector(denoiser, state, schedule, settings, noise, callback)
        return DenseBatch(end.types.argmax(-1) + 1, end.frac_coords, end.lattices)
