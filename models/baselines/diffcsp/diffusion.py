"""DiffCSP for ab initio generation: joint diffusion of lattice, coordinates and one-hot types in feature space."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.baselines.diffcsp.sampler import SamplerSettings, initial_state, sample_predictor_corrector
from models.cspnet import CSPNet, CSPNetConfig
from models.denoising import denoising_losses
from models.dense import DenseBatch
from models.diffusion import Noise, coord_schedule, cosine_schedule, strided_times
from models.guidance import LoneAtoms, guide_of


@dataclass(frozen=True)
class DiffCSPConfig:
    """Everything a DiffCSP is made from but its weights.

    num_steps: T. loss_weights: of lattice, coordinates and types.
    """

    network: CSPNetConfig = field(default_factory=CSPNetConfig)
    num_steps: int = 1000
    sigma_range: tuple[float, float] = (0.005, 0.5)
    loss_weights: tuple[float, float, float] = (1.0, 1.0, 20.0)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)


class DiffCSP(nn.Module):
    """The network with its schedules: training losses, and samples of one size N. Jiao et al. 2023.

    type_frequencies: (types,) of the training data, which guidance alone needs; not part of the weights.
    """

    type_frequencies: Tensor

    def __init__(self, config: DiffCSPConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CSPNet(config.network)
        self.weak: CSPNet | None = None
        self.gaussian = cosine_schedule(config.num_steps)
        self.coords = coord_schedule(config.num_steps, *config.sigma_range)
        self.register_buffer("type_frequencies", torch.ones(config.network.node_dim), persistent=False)

    def losses(self, batch: DenseBatch, noise: Noise, times: Tensor | None = None) -> dict[str, Tensor]:
        """`denoising_losses` with one-hot types as nodes. times: (B,) in 1..T; drawn uniformly when not given."""
        types = F.one_hot(batch.atomic_numbers - 1, self.config.network.node_dim).to(batch.frac_coords.dtype)
        clean = types, batch.frac_coords, batch.lattices
        return denoising_losses(self.network, self.gaussian, self.coords, clean, noise, self.config.loss_weights, times)

    def lone_atoms(self) -> LoneAtoms:
        """One-hot types by their frequency."""
        return LoneAtoms(torch.eye(len(self.type_frequencies)).to(self.type_frequencies), self.type_frequencies.log())

    @torch.no_grad()
    def sample(self, batch: int, num_atoms: int, noise: Noise, steps: int) -> DenseBatch:
        """(B) crystals of N atoms in `steps` steps: all of 1..T, or evenly strided with the same marginals."""
        times = strided_times(self.config.num_steps, steps)
        state = initial_state(noise, batch, num_atoms, self.config.network.node_dim)
        schedules = self.gaussian.take(times), self.coords.take(times)
        settings = self.config.sampler
        guide = guide_of(self, settings.guidance)
        end = sample_predictor_corrector(self.network, state, *schedules, times, settings, noise, guide)
        return DenseBatch(end.types.argmax(-1) + 1, end.frac_coords, end.lattices)
