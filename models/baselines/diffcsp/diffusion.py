"""DiffCSP for ab initio generation: joint diffusion of lattice, coordinates and one-hot types in feature space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.baselines.diffcsp.sampler import SamplerSettings, initial_state, sample_predictor_corrector
from models.cspnet import CSPNet, CSPNetConfig
from models.dense import DenseBatch
from models.diffusion import Noise, coord_schedule, cosine_schedule, strided_times, time_embedding, wrapped_normal_score


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
    """The network with its schedules: training losses, and samples of one size N. Jiao et al. 2023."""

    def __init__(self, config: DiffCSPConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CSPNet(config.network)
        self.gaussian = cosine_schedule(config.num_steps)
        self.coords = coord_schedule(config.num_steps, *config.sigma_range)

    def losses(self, batch: DenseBatch, noise: Noise, times: Tensor | None = None) -> dict[str, Tensor]:
        """Mean squared errors of the predicted noise and score, and their weighted sum "loss".

        times: (B,) in 1..T; drawn uniformly when not given.
        """
        size, n = batch.atomic_numbers.shape
        device, dtype = batch.frac_coords.device, batch.frac_coords.dtype
        if times is None:
            times = (noise.uniform("times", (size,)) * self.config.num_steps).long() + 1
        lookup = times.cpu()
        product = self.gaussian.alphas_cumprod[lookup].to(device, dtype)[:, None, None]
        sigma = self.coords.sigmas[lookup].to(device, dtype)[:, None, None]
        norm = self.coords.score_norms[lookup].to(device, dtype)[:, None, None]
        clean_types = F.one_hot(batch.atomic_numbers - 1, self.config.network.node_dim).to(dtype)

        eps_lattice = noise.normal("lattice", (size, 3, 3))
        eps_types = noise.normal("type", (size, n, self.config.network.node_dim))
        shift = sigma * noise.normal("coord", (size, n, 3))
        out = self.network(
            product.sqrt() * clean_types + (1 - product).sqrt() * eps_types,
            batch.frac_coords + shift,
            product.sqrt() * batch.lattices + (1 - product).sqrt() * eps_lattice,
            time_embedding(times.to(dtype), self.config.network.time_dim),
        )
        # The published network predicts the score with its sign turned, divided by the root of its mean square.
        target = -wrapped_normal_score(shift, sigma) / norm.sqrt()
        lattice, coord = F.mse_loss(out.lattice, eps_lattice), F.mse_loss(out.coord, target)
        types = F.mse_loss(out.node, eps_types)
        weights = self.config.loss_weights
        total = weights[0] * lattice + weights[1] * coord + weights[2] * types
        return {"loss": total, "lattice": lattice, "coord": coord, "type": types}

    @torch.no_grad()
    def sample(
        self, batch: int, num_atoms: int, noise: Noise, steps: int, on_step: Callable[[int], None] | None = None
    ) -> DenseBatch:
        """(B) crystals of N atoms in `steps` steps: all of 1..T, or evenly strided with the same marginals."""
        times = strided_times(self.config.num_steps, steps)
        state = initial_state(noise, batch, num_atoms, self.config.network.node_dim)
        schedules = self.gaussian.take(times), self.coords.take(times)
        end = sample_predictor_corrector(self.network, state, *schedules, times, self.config.sampler, noise, on_step)
        return DenseBatch(end.types.argmax(-1) + 1, end.frac_coords, end.lattices)
