"""CDVAE: encoder, decoder and the latent's own predictions of number of atoms, cell and composition."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.arrays import FloatArray
from bench.crystals import filter_crystals
from bench.interfaces import SampleBatch
from models.baselines.cdvae.cells import (
    lattices_from_parameters,
    nearest_image,
    parameters_of_lattices,
    to_cartesian,
)
from models.baselines.cdvae.encoder import DimeNetPlusPlus, EncoderConfig
from models.baselines.cdvae.gemnet import GemNetConfig, GemNetT
from models.baselines.cdvae.graph import Layout
from models.baselines.cdvae.langevin import LangevinSettings, annealed_langevin, steps_of_levels
from models.cspnet import EvaluationCounter
from models.dense import DenseBatch
from models.diffusion import Noise, SeededNoise, torch_seed
from models.sampling import StepCallback


@dataclass(frozen=True)
class CDVAEConfig:
    """Everything a CDVAE is made from but its weights.

    hidden_dim, num_head_layers: of the predictions from the latent. sigma_range, type_sigma_range: first and last of
    `num_levels` noise levels, in Angstrom and as weight of the predicted composition. loss_weights: of number of atoms,
    coordinates, types, lattice and composition. kl_weight: beta. teacher_forcing: share of the training, its first
    part, in which noise is added in the true cell rather than the predicted one. scale_lengths: lengths are predicted
    in units of N^(1/3) Angstrom.
    """

    latent_dim: int = 256
    hidden_dim: int = 256
    num_head_layers: int = 1
    max_atoms: int = 20
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: GemNetConfig = field(default_factory=GemNetConfig)
    num_levels: int = 50
    sigma_range: tuple[float, float] = (10.0, 0.01)
    type_sigma_range: tuple[float, float] = (5.0, 0.01)
    loss_weights: tuple[float, float, float, float, float] = (1.0, 10.0, 1.0, 10.0, 1.0)
    kl_weight: float = 0.01
    teacher_forcing: float = 0.5
    scale_lengths: bool = True
    sampler: LangevinSettings = field(default_factory=LangevinSettings)

    @property
    def num_steps(self) -> int:
        """Langevin steps of a whole trajectory; each is one evaluation of the decoder."""
        return self.num_levels * self.sampler.steps_per_level


class Statistics(NamedTuple):
    """What a latent says of its crystal.

    num_atoms_logits: (B, max_atoms + 1). scaled_lattice: (B, 6) standardised. composition_logits: (B, num_types).
    """

    num_atoms_logits: Tensor
    scaled_lattice: Tensor
    composition_logits: Tensor


class RaggedCrystals(NamedTuple):
    """num_atoms: (B,). atomic_numbers: (A,). frac_coords: (A, 3). lattices: (B, 3, 3)."""

    num_atoms: Tensor
    atomic_numbers: Tensor
    frac_coords: Tensor
    lattices: Tensor


class CDVAE(nn.Module):
    """The whole model. Xie et al. 2022 (CDVAE, ICLR)."""

    sigmas: Tensor
    type_sigmas: Tensor
    lattice_mean: Tensor
    lattice_std: Tensor

    def __init__(self, config: CDVAEConfig) -> None:
        super().__init__()
        if config.decoder.latent_dim != config.latent_dim:
            raise ValueError(f"latent of {config.latent_dim}, but a decoder for {config.decoder.latent_dim}")
        self.config = config
        latent = config.latent_dim
        self.encoder = DimeNetPlusPlus(config.encoder, latent)
        self.decoder = GemNetT(config.decoder)
        self.mean, self.log_variance = nn.Linear(latent, latent), nn.Linear(latent, latent)
        self.num_atoms_head = self._head(config.max_atoms + 1)
        self.lattice_head = self._head(6)
        self.composition_head = self._head(config.decoder.num_types)
        self.register_buffer("sigmas", _geometric(config.sigma_range, config.num_levels))
        self.register_buffer("type_sigmas", _geometric(config.type_sigma_range, config.num_levels))
        # Of lengths (a third root of N apart) and angles in the training data.
        self.register_buffer("lattice_mean", torch.zeros(6))
        self.register_buffer("lattice_std", torch.ones(6))

    def _head(self, width: int) -> nn.Sequential:
        config = self.config
        widths = [config.latent_dim] + [config.hidden_dim] * config.num_head_layers
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], width))

    def encode(
        self, atomic_numbers: Tensor, frac_coords: Tensor, lattices: Tensor, num_atoms: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, latent_dim) of the latents of ragged crystals."""
        hidden = self.encoder(atomic_numbers, frac_coords, lattices, num_atoms)
        return self.mean(hidden), self.log_variance(hidden)

    def statistics(self, z: Tensor) -> Statistics:
        """The latents' predictions, z: (B, latent_dim)."""
        return Statistics(self.num_atoms_head(z), self.lattice_head(z), self.composition_head(z))

    def cell_parameters(self, scaled: Tensor, num_atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths (B, 3) in Angstrom and angles (B, 3) in degrees of standardised ones (B, 6)."""
        values = scaled * self.lattice_std + self.lattice_mean
        lengths, angles = values[:, :3], values[:, 3:]
        return (lengths * num_atoms[:, None] ** (1 / 3) if self.config.scale_lengths else lengths), angles

    def decode(
        self,
        z: Tensor,
        noise: Noise,
        steps: int | None = None,
        num_atoms: Tensor | None = None,
        atomic_numbers: Tensor | None = None,
        callback: StepCallback | None = None,
    ) -> RaggedCrystals:
        """Crystals of latents (B, latent_dim), by `steps` Langevin steps, all `num_steps` of them when None.

        num_atoms: (B,), the latents' own predictions when None; where they say "no atoms" the crystal has none.
        atomic_numbers: (A,) first types, drawn from the predicted composition when None. callback: as of
        `annealed_langevin`; it is told of the crystals that have atoms.
        """
        with torch.no_grad():
            predicted = self.statistics(z)
            if num_atoms is None:
                num_atoms = predicted.num_atoms_logits.argmax(dim=1)
            lattices = lattices_from_parameters(*self.cell_parameters(predicted.scaled_lattice, num_atoms))
            some = num_atoms > 0
            if not some.any():
                nothing = num_atoms.new_zeros(0)
                return RaggedCrystals(num_atoms, nothing, lattices.new_zeros(0, 3), lattices)
            layout = Layout.of(num_atoms[some])
            if atomic_numbers is None:
                composition = predicted.composition_logits[some].softmax(dim=1)
                atomic_numbers = draw_types(composition, layout.num_atoms, noise)
            total = self.config.num_steps if steps is None else steps
            levels = steps_of_levels(self.config.num_levels, total)
            frac_coords, atomic_numbers = annealed_langevin(
                self.decoder,
                z[some],
                atomic_numbers,
                lattices[some],
                layout,
                self.sigmas,
                levels,
                self.config.sampler,
                noise,
                callback,
            )
        return RaggedCrystals(num_atoms, atomic_numbers, frac_coords, lattices)

    def fit_lattice_scaler(self, batches: Sequence[DenseBatch]) -> None:
        """Means and standard deviations of the training cells, by which the lattice is standardised.

        A spread below 0.01 (Angstrom or degrees) counts as 0.01, the published code's 1e-5 would magnify the rounding
        of cells that are all cubic.
        """
        values = torch.cat([self._cell_values(batch) for batch in batches])
        self.lattice_mean.copy_(values.mean(0))
        self.lattice_std.copy_(values.std(0, correction=0).clamp_min(0.01))

    def _cell_values(self, batch: DenseBatch) -> Tensor:
        lengths, angles = parameters_of_lattices(batch.lattices)
        scale = batch.num_atoms ** (1 / 3) if self.config.scale_lengths else 1.0
        return torch.cat([lengths / scale, angles], dim=1)

    def losses(self, batch: DenseBatch, noise: Noise, teacher_forcing: bool = True) -> dict[str, Tensor]:
        """The published training losses by name and their weighted sum "loss".

        teacher_forcing: noise is added in the true cell rather than the predicted one (the published training does so
        for its first half). ValueError when a crystal has more atoms than the model can count.
        """
        config = self.config
        size, n = batch.atomic_numbers.shape
        if n > config.max_atoms:
            raise ValueError(f"crystals of {n} atoms, but the model counts to max_atoms = {config.max_atoms}")
        device, types = batch.lattices.device, batch.atomic_numbers.reshape(-1)
        num_atoms = torch.full((size,), n, device=device)
        layout = Layout.of(num_atoms)
        frac_coords = batch.frac_coords.reshape(-1, 3)
        cells = lattices_from_parameters(*parameters_of_lattices(batch.lattices))

        mean, log_variance = self.encode(types, frac_coords, cells, num_atoms)
        z = mean + (0.5 * log_variance).exp() * noise.normal("latent", tuple(mean.shape))
        predicted = self.statistics(z)
        composition = predicted.composition_logits.index_select(0, layout.crystal)

        level = (noise.uniform("level", (size,)) * config.num_levels).long()
        sigma = self.sigmas[level][layout.crystal][:, None]
        level = (noise.uniform("type level", (size,)) * config.num_levels).long()
        type_sigma = self.type_sigmas[level][layout.crystal]

        weights = composition.detach().softmax(dim=1) * type_sigma[:, None]
        weights = weights.scatter_add(1, types[:, None] - 1, torch.ones_like(weights[:, :1])).cumsum(1)
        places = noise.uniform("type", (len(types), 1)).to(weights) * weights[:, -1:]
        noisy_types = torch.searchsorted(weights, places, right=True).clamp_max(weights.shape[1] - 1)[:, 0] + 1

        used = cells
        if not teacher_forcing:
            # As published: the losses of coordinates and types do not train the lattice head, nor the latent by it.
            scaled = predicted.scaled_lattice.detach()
            used = lattices_from_parameters(*self.cell_parameters(scaled, num_atoms))
        moved = noise.normal("coord", tuple(frac_coords.shape)) * sigma
        noisy = (frac_coords + to_cartesian(moved, torch.linalg.pinv(used), layout.crystal)) % 1.0
        out = self.decoder(z, noisy, noisy_types, used, layout)
        back = nearest_image(frac_coords - noisy, cells, layout.crystal)

        losses = {
            "num_atoms": F.cross_entropy(predicted.num_atoms_logits, num_atoms),
            # 0.5 sigma^2 |back / sigma^2 - output / sigma|^2
            "coord": 0.5 * ((back / sigma - out.cart_coord_diff) ** 2).sum(1).mean(),
            "type": (F.cross_entropy(out.type_logits, types - 1, reduction="none") / type_sigma).mean(),
            "lattice": F.mse_loss(
                predicted.scaled_lattice, (self._cell_values(batch) - self.lattice_mean) / self.lattice_std
            ),
            "composition": F.cross_entropy(composition, types - 1),
        }
        total = sum(w * value for w, value in zip(config.loss_weights, losses.values(), strict=True))
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
        return {"loss": total + config.kl_weight * kl, **losses, "kl": kl}

    def sample(
        self, num_crystals: int, noise: Noise, steps: int | None = None, callback: StepCallback | None = None
    ) -> RaggedCrystals:
        """(B) crystals of latents from the prior. callback: as of `decode`."""
        latents = noise.normal("latent", (num_crystals, self.config.latent_dim))
        return self.decode(latents, noise, steps, callback=callback)

    def sample_crystals(
        self, num_crystals: int, seed: int, steps: int, callback: StepCallback | None = None
    ) -> SampleBatch:
        """Crystals of latents from the prior. What a network makes empty or not finite gets a reason."""
        noise = SeededNoise.from_seed(torch_seed(seed), self.sigmas.device)
        with EvaluationCounter(self.decoder) as counter:
            batch = self.sample(num_crystals, noise, steps, callback)
        num_atoms, atomic_numbers, frac_coords, lattices = (part.cpu().numpy() for part in batch)
        filtered = filter_crystals(num_atoms, atomic_numbers, frac_coords, lattices)
        evaluations = np.where(num_atoms > 0, counter.per_crystal, 0)
        return SampleBatch(filtered.crystals, steps, evaluations, dict(filtered.reasons))

    def trained_part(self, stage: str) -> nn.Module:
        """All of it, in its only stage."""
        return self

    def compiled_parts(self, stage: str) -> list[nn.Module]:
        """Nothing: the graph has another number of edges in every batch."""
        return []

    def stage_input(self, stage: str, crystals: list[DenseBatch]) -> list[DenseBatch]:
        """The crystals as they are."""
        return crystals

    def fit_statistics(self, stage: str, train: list[DenseBatch], seed: int) -> None:
        """`fit_lattice_scaler`."""
        self.fit_lattice_scaler(train)

    def stage_losses(self, stage: str, batch: DenseBatch, noise: Noise, progress: float) -> dict[str, Tensor]:
        """`losses`, in the true cell for the first part of the training."""
        return self.losses(batch, noise, teacher_forcing=progress < self.config.teacher_forcing)

    def sample_in_training(
        self, num_crystals: int, seed: int, max_steps: int, num_atoms_probabilities: FloatArray
    ) -> SampleBatch:
        """Crystals of the weights as they are; how many atoms they have it decides itself."""
        return self.sample_crystals(num_crystals, seed, min(max_steps, self.config.num_steps))


def draw_types(composition: Tensor, num_atoms: Tensor, noise: Noise) -> Tensor:
    """(A,) atomic numbers that follow the compositions (B, num_types) as exactly as whole atoms can.

    Each element gets its rounded share; atoms that are then missing are drawn from what the rounding left, in random
    order, and atoms too many are cut (Xie et al. 2022, section 4.2, as published).
    """
    drawn = []
    for shares, count in zip(composition.nan_to_num(0.0), num_atoms.tolist(), strict=True):
        whole = (shares * count).round()
        types = torch.arange(len(shares), device=shares.device).repeat_interleave(whole.long())
        missing = count - len(types)
        if missing > 0:
            left = (shares - whole / count).clamp_min(0.0).cumsum(0)
            places = noise.uniform("type", (missing,)).to(left) * left[-1]
            more = torch.searchsorted(left, places, right=True).clamp_max(len(shares) - 1)
            types = torch.cat([types, more])
        order = noise.uniform("order", (len(types),)).argsort()
        drawn.append(types[order][:count])
    return torch.cat(drawn) + 1


def _geometric(ends: tuple[float, float], count: int) -> Tensor:
    """(count,) from the first to the last in geometric progression, float32 as published."""
    first, last = (torch.tensor(end, dtype=torch.float64).log() for end in ends)
    return torch.linspace(float(first), float(last), count, dtype=torch.float64).exp().float()
