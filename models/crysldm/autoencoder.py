"""CrysLDM's variational autoencoder: atom types and lattice to a latent per atom and one per cell, and back.

The paper (section 4.1, eqs. 3-5) fixes what is encoded (A and L; X is passed along unencoded), that both networks are
periodic E(3)-equivariant GNNs, and the loss. It is silent on the rest; chosen here:

- Encoder and decoder are CSPNet trunks (the paper's Appendix C network without time), two layers each.
- z_h has 8 entries per atom, z_L is a 3x3 matrix that turns with the lattice, L -> L Q gives z_L -> z_L Q: the network
  puts out an invariant 3x3 matrix M and the mean of z_L is (1 + M) L / s, s a fixed length. The decoder inverts it in
  the same form. The starting point M = 0 is already a perfect code of L; what is learned is how to shift it.
- The posterior of z_h is a diagonal normal; that of z_L has one standard deviation per cell, since one per entry would
  not be equivariant.
- lambda = 1e-5 of the KL divergence (sum over latent entries, mean over atoms for z_h and over cells for z_L): larger
  weights blur the latents that the diffusion has to hit, and the number of different elements suffers.
- L_recon of L is the squared error in units of s, so that it does not outweigh the cross entropy of A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cspnet import CSPTrunk, combine_rows
from models.dense import DenseBatch
from models.diffusion import Noise

MAX_LOG_SIGMA = 2.0


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the VAE. lattice_scale: the length s in Angstrom. kl_weight: lambda of eq. 5."""

    num_types: int = 100
    latent_dim: int = 8
    hidden_dim: int = 128
    num_layers: int = 2
    num_frequencies: int = 32
    lattice_scale: float = 4.0
    kl_weight: float = 1e-5


class Posterior(NamedTuple):
    """Means and log standard deviations. z_h: (B, N, D) both. z_lattice: (B, 3, 3) and (B, 1, 1)."""

    mean_h: Tensor
    log_sigma_h: Tensor
    mean_lattice: Tensor
    log_sigma_lattice: Tensor

    def sample(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """z_h (B, N, D) and z_L (B, 3, 3), reparametrised. Algorithm 1, lines 5-7."""
        z_h = self.mean_h + self.log_sigma_h.exp() * noise.normal("latent", tuple(self.mean_h.shape))
        spread = self.log_sigma_lattice.exp()
        z_lattice = self.mean_lattice + spread * noise.normal("latent lattice", tuple(self.mean_lattice.shape))
        return z_h, z_lattice

    def kl_divergence(self) -> Tensor:
        """KL to the standard normal: summed over latent entries, mean over atoms (z_h) plus mean over cells (z_L)."""
        kl_h = 0.5 * (self.mean_h**2 + (2 * self.log_sigma_h).exp() - 1 - 2 * self.log_sigma_h).sum(-1).mean()
        log_sigma = self.log_sigma_lattice.flatten()
        squares = self.mean_lattice.flatten(1).square().sum(1)
        kl_lattice = 0.5 * (squares + 9 * ((2 * log_sigma).exp() - 1 - 2 * log_sigma)).mean()
        return kl_h + kl_lattice


class Encoder(nn.Module):
    """(A, X, L) -> posterior of (z_h, z_L), eq. 3."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_types, config.hidden_dim)
        self.trunk = CSPTrunk(config.hidden_dim, config.num_layers, config.num_frequencies)
        self.latent_out = nn.Linear(config.hidden_dim, 2 * config.latent_dim)
        self.lattice_out = nn.Linear(config.hidden_dim, 10)

    def forward(self, atomic_numbers: Tensor, frac_coords: Tensor, lattices: Tensor) -> Posterior:
        """atomic_numbers: (B, N), 1..100. frac_coords: (B, N, 3). lattices: (B, 3, 3) in Angstrom."""
        scaled = lattices / self.config.lattice_scale
        features = self.trunk(self.embedding(atomic_numbers - 1), frac_coords, scaled)
        mean_h, log_sigma_h = self.latent_out(features).chunk(2, dim=-1)
        lattice = self.lattice_out(features.mean(1))
        mean_lattice = scaled + combine_rows(lattice[:, :9].unflatten(1, (3, 3)), scaled)
        # Starting near 0.05 and bounded above, so that a first bad step cannot overflow the sample.
        return Posterior(
            mean_h,
            (log_sigma_h - 3).clamp_max(MAX_LOG_SIGMA),
            mean_lattice,
            (lattice[:, 9:, None] - 3).clamp_max(MAX_LOG_SIGMA),
        )


class Decoder(nn.Module):
    """(z_h, X, z_L) -> type logits and L, eq. 4."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Linear(config.latent_dim, config.hidden_dim)
        self.trunk = CSPTrunk(config.hidden_dim, config.num_layers, config.num_frequencies)
        self.type_out = nn.Linear(config.hidden_dim, config.num_types)
        self.lattice_out = nn.Linear(config.hidden_dim, 9)

    def forward(self, z_h: Tensor, frac_coords: Tensor, z_lattice: Tensor) -> tuple[Tensor, Tensor]:
        """z_h: (B, N, D), z_lattice: (B, 3, 3). Returns logits (B, N, types) and lattices (B, 3, 3) in Angstrom."""
        features = self.trunk(self.embedding(z_h), frac_coords, z_lattice)
        shift = self.lattice_out(features.mean(1)).unflatten(1, (3, 3))
        return self.type_out(features), self.config.lattice_scale * (z_lattice + combine_rows(shift, z_lattice))


class Autoencoder(nn.Module):
    """Encoder, decoder and their loss."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, batch: DenseBatch) -> Posterior:
        """The posterior of a batch's latents."""
        posterior: Posterior = self.encoder(batch.atomic_numbers, batch.frac_coords, batch.lattices)
        return posterior

    def losses(self, batch: DenseBatch, noise: Noise) -> dict[str, Tensor]:
        """Eq. 5: "types" (cross entropy), "lattice" (squared error / s^2), "kl", their sum "loss"; and "accuracy"."""
        posterior = self.encode(batch)
        z_h, z_lattice = posterior.sample(noise)
        logits, lattices = self.decoder(z_h, batch.frac_coords, z_lattice)
        target = batch.atomic_numbers - 1
        types = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        lattice = F.mse_loss(lattices, batch.lattices) * 9 / self.config.lattice_scale**2
        kl = posterior.kl_divergence()
        accuracy = (logits.argmax(-1) == target).float().mean()
        total = types + lattice + self.config.kl_weight * kl
        return {"loss": total, "types": types, "lattice": lattice, "kl": kl, "accuracy": accuracy}

    @torch.no_grad()
    def decode(self, z_h: Tensor, frac_coords: Tensor, z_lattice: Tensor) -> DenseBatch:
        """The most likely crystals of latents."""
        logits, lattices = self.decoder(z_h, frac_coords, z_lattice)
        return DenseBatch(logits.argmax(-1) + 1, frac_coords, lattices)
