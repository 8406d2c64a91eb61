"""CrysLDM's sampler, Algorithm 2, and the strided deterministic one for few steps.

Where Algorithm 2 of the paper is silent or slips, chosen here:

- The schedules: DiffCSP's cosine betas for the latents and exponential sigmas for X, with T = 100.
- Line 10's step size, step_size * sigma_{t-1}^2 / sigma_t: "eta" below; at T = 100 a Langevin step proportional to the
  variance, 0.1 sigma_{t-1}^2 ("variance"), keeps more structures valid and is the `cpu` preset's.
- The text uses one draw eps_X for predictor and corrector. Drawn twice here, as DiffCSP does: with one draw the two
  noises add up to more than the corrector's stationary variance.
- Line 9 evaluates the corrector at z_t, not z_{t-1}. Kept.
- The first step multiplies errors of the predicted noise by 1 / sqrt(alpha_T), 100 at the clip of the cosine schedule:
  with T = 100 the cells of a small network explode. `clamp`: the implied clean latents are bounded, each entry of z_h,
  and z_L by its Frobenius norm (bounding its entries would break equivariance). None is the algorithm as written.
- `min_volume`: with few steps cells flatten; the implied clean one is kept from it (`bounded_volume`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from models.cspnet import CSPNet
from models.diffusion import (
    CoordSchedule,
    GaussianSchedule,
    Noise,
    bounded_entries,
    bounded_norm,
    bounded_volume,
    time_embedding,
)
from models.guidance import Guidance, Guide

LatentStep = Literal["ancestral", "ddim"]


@dataclass(frozen=True)
class LatentState:
    """A noisy crystal batch in latent space. z_h: (B, N, D). frac_coords: (B, N, 3). z_lattice: (B, 3, 3)."""

    z_h: Tensor
    frac_coords: Tensor
    z_lattice: Tensor


@dataclass(frozen=True)
class SamplerSettings:
    """How Algorithm 2 steps.

    latent_step: "ancestral" (lines 5-6) or "ddim" (the deterministic step of Song et al. 2021, better for few steps).
    corrector: step rule of line 10, "eta" or "variance" (module docstring), or "none" (one evaluation a step).
    step_size: its factor. clamp: (bound on |z_h| entries, bound on the Frobenius norm of z_L), or None.
    min_volume: bound on the volume of the implied clean cell (A^3 per atom), which the model turns into one on
    |det z_L|, or None. guidance: which the model turns into a `Guide`, or None.
    """

    latent_step: LatentStep = "ancestral"
    corrector: Literal["eta", "variance", "none"] = "eta"
    step_size: float = 1e-3
    clamp: tuple[float, float] | None = None
    min_volume: float | None = None
    guidance: Guidance | None = None


def initial_state(noise: Noise, batch: int, num_atoms: int, latent_dim: int) -> LatentState:
    """Line 2: normal latents, uniform coordinates."""
    z_h = noise.normal("latent", (batch, num_atoms, latent_dim))
    z_lattice = noise.normal("latent lattice", (batch, 3, 3))
    return LatentState(z_h, noise.uniform("coord", (batch, num_atoms, 3)), z_lattice)


def sample_latent(
    network: CSPNet,
    state: LatentState,
    gaussian: GaussianSchedule,
    coords: CoordSchedule,
    times: Tensor,
    settings: SamplerSettings,
    noise: Noise,
    guide: Guide | None = None,
    smallest_cell: float | None = None,
) -> LatentState:
    """Algorithm 2, lines 3-12: latents by DDPM (or DDIM), coordinates by predictor and Langevin corrector.

    times: (S,) network times of the S steps, ascending; the schedules hold S + 1 entries. No noise at the last step.
    guide: changes what the network predicts; not what the corrector asks of it. smallest_cell: bound on |det| of the
    implied clean z_L.
    """
    z_h, x, z_lattice = state.z_h, state.frac_coords, state.z_lattice
    for step in range(len(times), 0, -1):
        features = time_embedding(times[step - 1].to(x.device, x.dtype).expand(len(x)), network.config.time_dim)
        last = step == 1
        sigma, next_sigma = float(coords.sigmas[step]), float(coords.sigmas[step - 1])
        score_scale = float(coords.score_norms[step]) ** 0.5
        product = float(gaussian.alphas_cumprod[step])
        inputs = z_h, x, z_lattice, features
        out = network(*inputs)
        if guide is not None:
            out = guide(out, inputs, product)

        gap = sigma**2 - next_sigma**2
        predicted = x - gap * score_scale * out.coord
        if not last:
            predicted = predicted + next_sigma * gap**0.5 / sigma * noise.normal("coord", tuple(x.shape))
        if settings.corrector != "none":
            # At the last step sigma_0 = 0 and the corrector moves nothing; evaluated all the same, as written.
            size = settings.step_size * next_sigma**2 / (sigma if settings.corrector == "eta" else 1.0)
            corrected = network(z_h, predicted, z_lattice, features).coord
            predicted = predicted - size * score_scale * corrected
            if not last:
                predicted = predicted + (2 * size) ** 0.5 * noise.normal("coord", tuple(x.shape))
        x = predicted % 1.0

        eps_h, eps_lattice = out.node, out.lattice
        if settings.clamp is not None:
            eps_h = bounded_entries(z_h, eps_h, product, settings.clamp[0])
            eps_lattice = bounded_norm(z_lattice, eps_lattice, product, settings.clamp[1])
        if smallest_cell is not None:
            eps_lattice = bounded_volume(z_lattice, eps_lattice, product, smallest_cell)
        z_h = _latent_step(z_h, eps_h, gaussian, step, settings.latent_step, noise, "latent")
        z_lattice = _latent_step(z_lattice, eps_lattice, gaussian, step, settings.latent_step, noise, "latent lattice")
    return LatentState(z_h, x, z_lattice)


def _latent_step(
    z: Tensor, eps: Tensor, gaussian: GaussianSchedule, step: int, kind: LatentStep, noise: Noise, name: str
) -> Tensor:
    """One step of lines 5-6: from z_t and its predicted noise to z_{t-1}."""
    product, previous = float(gaussian.alphas_cumprod[step]), float(gaussian.alphas_cumprod[step - 1])
    if kind == "ddim":
        clean = (z - (1 - product) ** 0.5 * eps) / product**0.5
        return previous**0.5 * clean + (1 - previous) ** 0.5 * eps
    beta = float(gaussian.betas[step])
    mean = (z - beta / (1 - product) ** 0.5 * eps) / (1 - beta) ** 0.5
    if step == 1:
        return mean
    return mean + float(gaussian.posterior_sigmas[step]) * noise.normal(name, tuple(z.shape))
