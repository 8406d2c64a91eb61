"""Noise schedules, the wrapped normal distribution, and the randomness that samplers draw on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianSchedule:
    """Variance-preserving diffusion of T steps; index 0 is the clean end, so every array has T + 1 entries.

    betas, alphas_cumprod, posterior_sigmas: (T + 1,) float64. Ho et al. 2020 (DDPM), eqs. 4 and 6.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    posterior_sigmas: Tensor

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Tensor) -> GaussianSchedule:
        """From the products alone; alphas_cumprod[0] is 1."""
        previous = torch.cat([torch.ones(1, dtype=alphas_cumprod.dtype), alphas_cumprod[:-1]])
        betas = 1 - alphas_cumprod / previous
        variance = betas * (1 - previous) / (1 - alphas_cumprod).clamp_min(1e-300)
        variance[0] = 0.0
        return cls(betas, alphas_cumprod, variance.sqrt())

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.betas) - 1

    def take(self, times: Tensor) -> GaussianSchedule:
        """The schedule that visits only `times` (ascending, without 0): same marginals at those times."""
        products = self.alphas_cumprod[torch.cat([torch.zeros(1, dtype=torch.long), times])]
        return GaussianSchedule.from_alphas_cumprod(products)


def cosine_schedule(
    num_steps: int, offset: float = 0.008, beta_range: tuple[float, float] = (1e-4, 0.9999)
) -> GaussianSchedule:
    """Products of alphas ~ cos^2, betas clipped to `beta_range`.

    Nichol and Dhariwal 2021 (Improved DDPM), eq. 17; the clip is DiffCSP's.
    """
    t = torch.linspace(0, num_steps, num_steps + 1, dtype=torch.float64)
    f = torch.cos((t / num_steps + offset) / (1 + offset) * math.pi / 2) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(*beta_range)
    return GaussianSchedule.from_alphas_cumprod(torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)]))


@dataclass(frozen=True)
class CoordSchedule:
    """Noise of fractional coordinates; index 0 is the clean end (sigma 0).

    sigmas: (T + 1,) float64, fractional. score_norms: (T + 1,) mean squared score at each sigma, by which the
    network's output is scaled; index 0 is 1.
    """

    sigmas: Tensor
    score_norms: Tensor

    def take(self, times: Tensor) -> CoordSchedule:
        """The schedule that visits only `times` (ascending, without 0)."""
        index = torch.cat([torch.zeros(1, dtype=torch.long), times])
        return CoordSchedule(self.sigmas[index], self.score_norms[index])


def exponential_sigmas(num_steps: int, begin: float, end: float) -> Tensor:
    """(T + 1,) float64: 0, then `begin` to `end` in geometric progression."""
    ramp = np.exp(np.linspace(math.log(begin), math.log(end), num_steps))
    return torch.from_numpy(np.concatenate([[0.0], ramp]))


def coord_schedule(num_steps: int, begin: float = 0.005, end: float = 0.5) -> CoordSchedule:
    """Exponential sigmas with their mean squared scores, which the published code estimates by random draws."""
    sigmas = exponential_sigmas(num_steps, begin, end)
    norms = torch.ones_like(sigmas)
    norms[1:] = wrapped_normal_score_norm(sigmas[1:])
    return CoordSchedule(sigmas, norms)


def strided_times(num_steps: int, visited: int) -> Tensor:
    """(visited,) ascending times in 1..T at even spacing, T among them."""
    if not 1 <= visited <= num_steps:
        raise ValueError(f"{visited} steps asked of a schedule of {num_steps}; choose 1 to {num_steps}")
    times = torch.linspace(0, num_steps, visited + 1, dtype=torch.float64)[1:].round().long()
    return times


def wrapped_normal_score(displacement: Tensor, sigma: Tensor) -> Tensor:
    """Gradient of the log density of a wrapped normal, d/dx log N_w(x; 0, sigma^2), period 1.

    displacement: (..., 3) fractional; sigma: broadcastable to it, > 0.
    Jiao et al. 2023 (DiffCSP), eq. 7. Displacements are first wrapped to [-1/2, 1/2]; the images within 4 periods
    are summed, enough for sigma <= 0.6 in double precision (the next image weighs below exp(-(4.5 / 0.6)^2 / 2)).
    """
    nearest = displacement - displacement.round()
    images = torch.arange(-4, 5, dtype=displacement.dtype, device=displacement.device)
    shifted = nearest[..., None] + images  # (..., 3, 9)
    variance = (sigma**2)[..., None]
    weights = torch.softmax(-(shifted**2) / (2 * variance), dim=-1)
    return -(weights * shifted).sum(-1) / variance[..., 0]


def wrapped_normal_score_norm(sigmas: Tensor, points: int = 4096) -> Tensor:
    """(K,) mean squared score of a wrapped normal at each sigma (K,), by quadrature over one period."""
    norms = []
    for sigma in sigmas:
        half_width = min(0.5, 12 * float(sigma))
        x = torch.linspace(-half_width, half_width, points + 1, dtype=torch.float64)
        images = torch.arange(-4, 5, dtype=torch.float64)
        density = torch.exp(-((x[:, None] + images) ** 2) / (2 * sigma**2)).sum(1)
        score = wrapped_normal_score(x, sigma)
        norms.append(torch.trapezoid(density * score**2, x) / torch.trapezoid(density, x))
    return torch.stack(norms).to(sigmas.dtype)


def time_embedding(times: Tensor, dim: int) -> Tensor:
    """(B, dim) sinusoidal embedding of times (B,), of their floating type: sines, then cosines.

    Vaswani et al. 2017, with the spacing of frequencies that DiffCSP has.
    """
    half = dim // 2
    ramp = torch.arange(half, device=times.device, dtype=times.dtype)
    frequencies = torch.exp(ramp * (-math.log(10000) / (half - 1)))
    angles = times[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


# Volume per atom (A^3) below which hardly a cell of the training data lies: one of 1000 has less than 7.85 (Perov-5)
# or 7.38 (MP-20). In few steps small networks flatten cells: of all orientations of a nearly flat cell the mean is
# flat, so a network leaves a plane slowly that a cell has fallen into.
STRIDED_MIN_VOLUME = 7.5


def bounded_entries(noisy: Tensor, eps: Tensor, product: float, bound: float) -> Tensor:
    """Predicted noise, changed so that every entry of the implied clean value lies within +-bound.

    noisy: sqrt(product) clean + sqrt(1 - product) noise.
    """
    clean = ((noisy - (1 - product) ** 0.5 * eps) / product**0.5).clamp(-bound, bound)
    return (noisy - product**0.5 * clean) / (1 - product) ** 0.5


def bounded_norm(noisy: Tensor, eps: Tensor, product: float, bound: float) -> Tensor:
    """Predicted noise of matrices, changed so that the clean ones have Frobenius norm <= bound; equivariant.

    noisy, eps: (B, 3, 3), as in `bounded_entries`.
    """
    clean = (noisy - (1 - product) ** 0.5 * eps) / product**0.5
    clean = clean * (bound / clean.flatten(1).norm(dim=1).clamp_min(bound))[:, None, None]
    return (noisy - product**0.5 * clean) / (1 - product) ** 0.5


def bounded_volume(noisy: Tensor, eps: Tensor, product: float, smallest: float) -> Tensor:
    """Predicted noise of matrices, changed so that the clean ones have |det| >= `smallest`; equivariant.

    noisy, eps: (B, 3, 3), as in `bounded_entries`. A cell that is too small gets its flattest direction raised, no
    further than the next one, and is then scaled; the others are left as they are, bit for bit. So are all of them
    while there is less signal than noise (product < 0.5): what is implied is a mean over many orientations then. Just
    above that it still is over some, and cells that would not have flattened are raised a little with the others.
    """
    if product < 0.5:
        return eps
    clean = (noisy - (1 - product) ** 0.5 * eps) / product**0.5
    rows = torch.linalg.det(clean).abs() < smallest  # not those that are not finite
    if not rows.any():
        return eps
    left, sizes, right = torch.linalg.svd(clean[rows])
    largest, middle, flattest = sizes.clamp_min(1e-3 * smallest ** (1 / 3)).unbind(1)
    flattest = torch.minimum(middle, torch.maximum(flattest, smallest / (largest * middle)))
    sizes = torch.stack([largest, middle, flattest], dim=1)
    scale = (smallest / sizes.prod(1)).clamp_min(1.0) ** (1 / 3)
    raised = left @ ((scale[:, None] * sizes)[..., None] * right)
    bounded = eps.clone()
    bounded[rows] = (noisy[rows] - product**0.5 * raised) / (1 - product) ** 0.5
    return bounded


class Noise(Protocol):
    """Where a sampler's random numbers come from; `name` says what for."""

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal draws."""

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform draws in [0, 1)."""


@dataclass
class SeededNoise:
    """Draws from one seeded generator on the device."""

    generator: torch.Generator
    dtype: torch.dtype = torch.float32

    @classmethod
    def from_seed(cls, seed: int, device: str | torch.device, dtype: torch.dtype = torch.float32) -> SeededNoise:
        """A fresh generator on `device`."""
        return cls(torch.Generator(device=device).manual_seed(seed), dtype)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal draws; the name is not used."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device, dtype=self.dtype)

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform draws; the name is not used."""
        return torch.rand(shape, generator=self.generator, device=self.generator.device, dtype=self.dtype)
