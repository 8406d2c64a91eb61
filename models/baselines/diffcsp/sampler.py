"""DiffCSP's predictor-corrector sampler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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

# For strided schedules: beyond every cell of MP-20 (45 A), and three times a one-hot type. With fewer steps than T the
# first one multiplies the error of the predicted noise by up to 1000, and no weights are good enough without a bound.
STRIDED_CLAMP = (60.0, 3.0)


@dataclass(frozen=True)
class CrystalState:
    """A noisy crystal batch in feature space. types: (B, N, 100). frac_coords: (B, N, 3). lattices: (B, 3, 3)."""

    types: Tensor
    frac_coords: Tensor
    lattices: Tensor


@dataclass(frozen=True)
class SamplerSettings:
    """How the sampler steps.

    step_lr: corrector step (published: 1e-6 for Perov-5, 5e-6 for MP-20, 1e-5 for Carbon-24).
    sigma_begin: the smallest coordinate sigma as configured, not as the schedule holds it: published schedules are
    rounded to float32, and the first step multiplies the difference to 1e-5.
    clamp: bound on the Frobenius norm of the implied clean lattice (A) and on each implied clean type score, or None as
    published. An under-trained network needs it: at t = T the last beta is at its clip, and 1 / sqrt(alpha_T)
    multiplies the error of the predicted noise a hundredfold, so that cells blow up.
    min_volume: bound on the volume of the implied clean cell (A^3 per atom), which few steps need, or None.
    corrector: without it a step spends one evaluation instead of two. guidance: which the model turns into a `Guide`,
    or None.
    """

    step_lr: float = 1e-6
    sigma_begin: float = 0.005
    clamp: tuple[float, float] | None = None
    min_volume: float | None = None
    corrector: bool = True
    guidance: Guidance | None = None


def initial_state(noise: Noise, batch: int, num_atoms: int, num_types: int) -> CrystalState:
    """The prior: normal lattices and types, uniform coordinates, drawn in the published order."""
    lattices = noise.normal("lattice", (batch, 3, 3))
    frac_coords = noise.uniform("coord", (batch, num_atoms, 3))
    return CrystalState(noise.normal("type", (batch, num_atoms, num_types)), frac_coords, lattices)


def sample_predictor_corrector(
    network: CSPNet,
    state: CrystalState,
    gaussian: GaussianSchedule,
    coords: CoordSchedule,
    times: Tensor,
    settings: SamplerSettings,
    noise: Noise,
    guide: Guide | None = None,
) -> CrystalState:
    """Ancestral steps for lattice and types; Langevin corrector and ancestral predictor for coordinates.

    times: (S,) network times of the S steps, ascending; the schedules hold S + 1 entries (all of 1..T, or strided).
    Two network evaluations a step, corrector first (one without it). Jiao et al. 2023, Algorithm 2; the order of draws,
    and that the corrector also draws (unused) noise for lattice and types, follow the published code, so that a batch
    can be replayed from its draws. The last step adds no noise. guide: changes what the predictor's network says.
    """
    types, x, lattices = state.types, state.frac_coords, state.lattices
    dtype, device = x.dtype, x.device
    for step in range(len(times), 0, -1):
        features = time_embedding(times[step - 1].to(device, dtype).expand(len(x)), network.config.time_dim).to(dtype)
        last = step == 1
        sigma, next_sigma = float(coords.sigmas[step]), float(coords.sigmas[step - 1])
        score_scale = float(coords.score_norms[step]) ** 0.5

        if settings.corrector:
            corrector_noise = _draw(noise, lattices, types, x, last)
            size = settings.step_lr * (sigma / settings.sigma_begin) ** 2
            out = network(types, x, lattices, features)
            x = x - size * score_scale * out.coord + (2 * size) ** 0.5 * corrector_noise[2]

        lattice_noise, type_noise, coord_noise = _draw(noise, lattices, types, x, last)
        product = float(gaussian.alphas_cumprod[step])
        inputs = types, x, lattices, features
        out = network(*inputs)
        if guide is not None:
            out = guide(out, inputs, product)
        size = sigma**2 - next_sigma**2
        spread = next_sigma * size**0.5 / sigma
        x = (x - size * score_scale * out.coord + spread * coord_noise) % 1.0
        eps_lattice, eps_types = out.lattice, out.node
        if settings.clamp is not None:
            eps_lattice = bounded_norm(lattices, eps_lattice, product, settings.clamp[0])
            eps_types = bounded_entries(types, eps_types, product, settings.clamp[1])
        if settings.min_volume is not None:
            eps_lattice = bounded_volume(lattices, eps_lattice, product, settings.min_volume * x.shape[1])
        beta, posterior_sigma = float(gaussian.betas[step]), float(gaussian.posterior_sigmas[step])
        shrink, weight = (1 - beta) ** -0.5, beta / (1 - product) ** 0.5
        lattices = shrink * (lattices - weight * eps_lattice) + posterior_sigma * lattice_noise
        types = shrink * (types - weight * eps_types) + posterior_sigma * type_noise
    return CrystalState(types, x, lattices)


def _draw(noise: Noise, lattices: Tensor, types: Tensor, x: Tensor, last: bool) -> tuple[Tensor, Tensor, Tensor]:
    if last:
        return torch.zeros_like(lattices), torch.zeros_like(types), torch.zeros_like(x)
    drawn = (("lattice", lattices), ("type", types), ("coord", x))
    lattice, kind, coord = (noise.normal(name, tuple(like.shape)) for name, like in drawn)
    return lattice, kind, coord
