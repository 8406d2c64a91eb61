"""CrysLDM's latent diffusion: the denoising network on (z_h, X, z_L), its losses, and the whole model.

Section 4.2 and Appendices C and D of the paper. Chosen where the paper is silent:

- The denoising network is CSPNet with z_h in place of one-hot types and z_L in place of L. eq. 15's noise of z_L is
  z_L times an invariant matrix, so it turns with the lattice.
- Latents are standardised once, after stage 1, from the training split: z_h to zero mean and unit variance per entry;
  z_L by one factor to unit root mean square (a shift of z_L would break equivariance).
- t is drawn from 1..T (Algorithm 1 says U(0, T), the losses U(1, T)); the score target carries the gradient of the
  logarithm that eq. 12 lacks and is divided by its root mean square, as in DiffCSP.
- Stage 2 trains on latents drawn from the posterior. All loss weights are 1; each loss is a mean over its entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bench.arrays import FloatArray
from bench.interfaces import SampleBatch
from models.bounds import Bounds
from models.crysldm.autoencoder import Autoencoder, AutoencoderConfig, Posterior
from models.crysldm.sampler import SamplerSettings, initial_state, sample_latent
from models.cspnet import CSPNet, CSPNetConfig
from models.denoiser import Denoiser
from models.denoising_loss import denoising_losses, loss_table
from models.dense import DenseBatch
from models.diffusion import Noise, SeededNoise, StepSchedule, coord_schedule, cosine_schedule
from models.guidance import guide_of
from models.sampling import StepCallback, sample_crystals, usual_sampling
from models.type_posterior import LoneAtoms


@dataclass(frozen=True)
class EncodedBatch(DenseBatch):
    """Crystals with the posterior of their latents, for a stage whose encoder does not change."""

    posterior: Posterior

    def take(self, indices: Tensor) -> EncodedBatch:
        """The crystals at `indices` (K,)."""
        part = super().take(indices)
        posterior = Posterior(*(values[indices] for values in self.posterior))
        return EncodedBatch(part.atomic_numbers, part.frac_coords, part.lattices, posterior)

    def slice(self, start: int, stop: int) -> EncodedBatch:
        """Crystals start .. stop - 1."""
        return self.take(torch.arange(len(self), device=self.lattices.device)[start:stop])

    def to(self, device: str | torch.device) -> EncodedBatch:
        """The same batch on another device."""
        moved = super().to(device)
        posterior = Posterior(*(values.to(device) for values in self.posterior))
        return EncodedBatch(moved.atomic_numbers, moved.frac_coords, moved.lattices, posterior)


@dataclass(frozen=True)
class CrysLDMConfig:
    """Everything a CrysLDM is made from but its weights.

    loss_weights: of z_L, X and z_h, and of the cross entropy of a posterior head.
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    network: CSPNetConfig = field(default_factory=lambda: CSPNetConfig(node_dim=8))
    num_steps: int = 100
    sigma_range: tuple[float, float] = (0.005, 0.5)
    loss_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)


class CrysLDM(nn.Module):
    """VAE and latent diffusion: losses of both training stages (Algorithm 1) and samples (Algorithm 2).

    type_frequencies: (types,) of the training data, which guidance alone needs; not part of the weights.
    """

    type_frequencies: Tensor
    loss_table: Tensor
    latent_mean: Tensor
    latent_std: Tensor
    lattice_std: Tensor

    def __init__(self, config: CrysLDMConfig) -> None:
        super().__init__()
        if config.network.node_dim != config.autoencoder.latent_dim:
            raise ValueError(
                f"the denoising network takes {config.network.node_dim} entries per atom, "
                f"but the latent has {config.autoencoder.latent_dim}"
            )
        self.config = config
        self.autoencoder = Autoencoder(config.autoencoder)
        self.network = CSPNet(config.network)
        self.weak: CSPNet | None = None
        self._alone: tuple[Tensor, Posterior] | None = None
        self.gaussian = cosine_schedule(config.num_steps)
        self.coords = coord_schedule(config.num_steps, *config.sigma_range)
        self.register_buffer("loss_table", loss_table(self.gaussian, self.coords), persistent=False)
        self.register_buffer("latent_mean", torch.zeros(config.autoencoder.latent_dim))
        self.register_buffer("latent_std", torch.ones(config.autoencoder.latent_dim))
        self.register_buffer("lattice_std", torch.ones(()))
        self.register_buffer("type_frequencies", torch.ones(config.autoencoder.num_types), persistent=False)

    @torch.no_grad()
    def standardise_latents(self, batches: Sequence[DenseBatch], noise: Noise) -> None:
        """Sets the latents' mean and scale from crystals (the training split), once between the two stages."""
        latents, lattices = [], []
        for batch in batches:
            z_h, z_lattice = self.with_posterior(batch).posterior.sample(noise)
            latents.append(z_h.flatten(0, 1))
            lattices.append(z_lattice)
        all_h, all_lattice = torch.cat(latents), torch.cat(lattices)
        self.latent_mean.copy_(all_h.mean(0))
        self.latent_std.copy_(all_h.std(0))
        self.lattice_std.copy_(all_lattice.square().mean().sqrt())

    @torch.no_grad()
    def with_posterior(self, batch: DenseBatch, at_a_time: int = 1024) -> EncodedBatch:
        """The batch with the posterior of its latents, encoded so many crystals at a time unless it has it already."""
        if isinstance(batch, EncodedBatch):
            return batch
        parts = [self.autoencoder.encode(batch.slice(k, k + at_a_time)) for k in range(0, len(batch), at_a_time)]
        posterior = Posterior(*(torch.cat(values) for values in zip(*parts, strict=True)))
        return EncodedBatch(batch.atomic_numbers, batch.frac_coords, batch.lattices, posterior)

    @torch.no_grad()
    def encode(self, batch: DenseBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Standardised latents z_h (B, N, D) and z_L (B, 3, 3), drawn from the posterior."""
        posterior = batch.posterior if isinstance(batch, EncodedBatch) else self.autoencoder.encode(batch)
        z_h, z_lattice = posterior.sample(noise)
        return (z_h - self.latent_mean) / self.latent_std, z_lattice / self.lattice_std

    def losses(self, batch: DenseBatch, noise: Noise, times: Tensor | None = None) -> dict[str, Tensor]:
        """Stage 2: `denoising_losses` of standardised latents. times: (B,) in 1..T; drawn uniformly when not given."""
        z_h, z_lattice = self.encode(batch, noise)
        clean, weights, types = (z_h, batch.frac_coords, z_lattice), self.config.loss_weights, batch.atomic_numbers - 1
        return denoising_losses(self.network, self.loss_table, clean, noise, weights, times, types=types)

    def trained_part(self, stage: str) -> nn.Module:
        """Algorithm 1: the autoencoder in stage 1 ("vae"), the denoising network in stage 2."""
        return self.autoencoder if stage == "vae" else self.network

    def compiled_parts(self, stage: str) -> list[nn.Module]:
        """What is worth compiling of it."""
        return [self.autoencoder.encoder, self.autoencoder.decoder] if stage == "vae" else [self.network]

    def stage_input(self, stage: str, crystals: list[DenseBatch]) -> list[DenseBatch]:
        """In stage 2 with their posteriors, computed once: the encoder is frozen."""
        return crystals if stage == "vae" else [self.with_posterior(batch) for batch in crystals]

    def fit_statistics(self, stage: str, train: list[DenseBatch], seed: int) -> None:
        """Before stage 2, `standardise_latents`: only now do the latents mean anything. Then the posterior head's."""
        if stage != "vae":
            self.standardise_latents(train, SeededNoise.from_seed(seed, "cpu"))
            if self.network.head is not None:
                self.fit_head(train)

    @torch.no_grad()
    def fit_head(self, train: Sequence[DenseBatch]) -> None:
        """Sets the closed form of the network's posterior head from the training crystals, encoded as they are.

        A type's code is the mean over its atoms; that of a type without atoms is its code alone in a cell. The
        variance holds the scatter of codes about these means as well as the posterior's.
        """
        assert self.network.head is not None
        encoded = [self.with_posterior(batch) for batch in train]
        types = torch.cat([batch.atomic_numbers.flatten() for batch in encoded]) - 1
        means = torch.cat([batch.posterior.mean_h.flatten(0, 1) for batch in encoded]).double()
        means = (means - self.latent_mean) / self.latent_std
        spread = torch.cat([batch.posterior.log_sigma_h.flatten(0, 1) for batch in encoded]).exp() / self.latent_std
        counts = torch.bincount(types, minlength=self.config.autoencoder.num_types)
        sums = means.new_zeros(len(counts), means.shape[1]).index_add_(0, types, means)
        alone = (self._encode_alone()[1].mean_h[:, 0] - self.latent_mean) / self.latent_std
        codes = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), alone)
        variance = (means - codes[types]).square().mean() + spread.square().mean()
        self.network.head.fit(counts, codes, variance)

    def stage_losses(self, stage: str, batch: DenseBatch, noise: Noise, progress: float) -> dict[str, Tensor]:
        """Eq. 5 in stage 1, eqs. 10 and 12 in stage 2."""
        return self.autoencoder.losses(batch, noise) if stage == "vae" else self.losses(batch, noise)

    def sample_in_training(
        self, num_crystals: int, seed: int, max_steps: int, num_atoms_probabilities: FloatArray
    ) -> SampleBatch:
        """Crystals of the weights as they are, as `crysldm@STEPS` samples them."""
        steps, settings = usual_sampling(self.config, max_steps)
        return sample_crystals(self, num_atoms_probabilities, num_crystals, seed, steps, settings)

    def train(self, mode: bool = True) -> CrysLDM:
        """As of any module; what was encoded with the weights before is forgotten."""
        self._alone = None
        return super().train(mode)

    def _encoded_alone(self) -> tuple[Tensor, Posterior]:
        """Each type alone in a cubic cell: the cells (K, 3, 3), and what the encoder makes of them.

        Computed once for weights that are only sampled from: every N of every batch asks for it.
        """
        if self._alone is None or self.training:
            self._alone = self._encode_alone()
        return self._alone

    def _encode_alone(self) -> tuple[Tensor, Posterior]:
        types = torch.arange(1, len(self.type_frequencies) + 1, device=self.latent_mean.device)
        cell = self.config.autoencoder.lattice_scale * torch.eye(3).to(self.latent_mean)
        cells = cell.expand(len(types), 3, 3)
        alone = DenseBatch(types[:, None], cells.new_zeros(len(types), 1, 3), cells)
        return cells, self.autoencoder.encode(alone)

    @torch.no_grad()
    def volume_unit(self) -> float:
        """Cell volume (A^3) for each unit of |det z_L|, by lone atoms weighted with their types' frequencies.

        Of real crystals it is the median to 2 %; 98 in 100 lie within 8 % of it (Perov-5: 11 %).
        """
        cells, posterior = self._encoded_alone()
        latent = torch.linalg.det(posterior.mean_lattice / self.lattice_std).abs()
        weights = self.type_frequencies / self.type_frequencies.sum()
        return float((torch.linalg.det(cells) / latent * weights).sum())

    @torch.no_grad()
    def lone_atoms(self) -> LoneAtoms:
        """Types by their frequency, each with the code that the encoder gives to one atom alone in a cell.

        On MP-20 codes in real crystals lie within a tenth of it, where the nearest code of another type is 2.4 away.
        """
        if self.network.head is not None:
            return self.network.head.lone_atoms()
        _, posterior = self._encoded_alone()
        codes = (posterior.mean_h[:, 0] - self.latent_mean) / self.latent_std
        variance = (posterior.log_sigma_h.exp() / self.latent_std).square().mean()
        return LoneAtoms(codes, self.type_frequencies.log(), float(variance))

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

        Algorithm 2, lines 2-14. settings: those of the configuration when None. callback: as of `sample_latent`, whose
        latents `decode` turns into crystals.
        """
        settings = settings or self.config.sampler
        schedule = StepSchedule.strided(self.gaussian, self.coords, steps)
        state = initial_state(noise, num_crystals, num_atoms, self.config.network.node_dim)
        denoiser = Denoiser(self.network, guide_of(self, settings.guidance), self._bounds(settings, num_atoms))
        end = sample_latent(denoiser, state, schedule, settings, noise, callback)
        return self.decode(end.z_h, end.frac_coords, end.z_lattice)

    def _bounds(self, settings: SamplerSettings, num_atoms: int) -> Bounds:
        entries, norm = settings.clamp or (None, None)
        volume = None if settings.min_volume is None else settings.min_volume * num_atoms / self.volume_unit()
        return Bounds(entries, norm, volume)

    def decode(self, z_h: Tensor, frac_coords: Tensor, z_lattice: Tensor) -> DenseBatch:
        """The most likely crystals of standardised latents z_h (B, N, D) and z_L (B, 3, 3). Algorithm 2, line 13."""
        return self.autoencoder.decode(
            z_h * self.latent_std + self.latent_mean, frac_coords, z_lattice * self.lattice_std
        )
