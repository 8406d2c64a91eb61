"""The algebra of diffusion: noise added and taken away, noise schedules, the wrapped normal, and random draws.

alpha_bar is the product of the alphas up to a time, the share of signal: 1 for clean data, near 0 at the last time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


def add_noise(clean: Tensor, eps: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) eps: what is left of clean data at a time. CrysLDM, eq. 8.

    clean, eps: of one shape; alpha_bar: broadcastable to it.
    """
    return alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * eps


def predicted_clean(noisy: Tensor, eps: Tensor, alpha_bar: float) -> Tensor:
    """The clean data that a prediction of the noise implies: `add_noise` solved for `clean`."""
    return (noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def implied_noise(noisy: Tensor, clean: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """The noise that clean data imply: `add_noise` solved for `eps`."""
    return (noisy - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5


def perturb_coords(frac_coords: Tensor, eps: Tensor, sigma: Tensor | float) -> Tensor:
    """Gamma_w(X + sigma eps): a draw from the wrapped normal around X, within [0, 1). CrysLDM, eq. 11.

    frac_coords, eps: (..., 3), eps normal; sigma: broadcastable to them, fractional.
    """
    return (frac_coords + sigma * eps) % 1.0


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
        """From the cumulative products of the alphas; alphas_cumprod[0] is 1."""
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
        visited = self.alphas_cumprod[torch.cat([torch.zeros(1, dtype=torch.long), times])]
        return GaussianSchedule.from_alphas_cumprod(visited)


def cosine_schedule(
    num_steps: int, offset: float = 0.008, beta_range: tuple[float, float] = (1e-4, 0.9999)
) -> GaussianSchedule:
    """alpha_bar ~ cos^2, betas clipped to `beta_range`.

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


def strided_times(num_steps: int, visited: int, power: float = 1.0) -> Tensor:
    """(visited,) ascending times in 1..T, T among them, at T (k / visited)^power: even spacing for 1.

    power: between 0 and 1, at which the steps are shorter where there is more noise.
    """
    if not 1 <= visited <= num_steps:
        raise ValueError(f"{visited} steps asked of a schedule of {num_steps}; choose 1 to {num_steps}")
    if power == 1.0:
        return torch.linspace(0, num_steps, visited + 1, dtype=torch.float64)[1:].round().long()
    times = num_steps * (torch.arange(1, visited + 1, dtype=torch.float64) / visited) ** power
    # Near T they may be closer than 1: each must leave room for those after it.
    latest = num_steps - torch.arange(visited - 1, -1, -1)
    return torch.minimum(times.round().long(), latest)


class Step(NamedTuple):
    """One step of a sampler, from a time to the next less noisy one; plain numbers.

    number: S for the first, 1 for the last. time: what the network is told. next_: of where the step leads.
    posterior_sigma: spread of an ancestral step. score_scale: by which the network's score is multiplied.
    """

    number: int
    time: int
    alpha_bar: float
    next_alpha_bar: float
    beta: float
    posterior_sigma: float
    sigma: float
    next_sigma: float
    score_scale: float

    @property
    def is_last(self) -> bool:
        """Whether it leads to clean data, where samplers add no noise."""
        return self.number == 1


@dataclass(frozen=True)
class StepSchedule:
    """The S steps of a sampler: both schedules at the times that it visits.

    gaussian, coords: S + 1 entries. times: (S,) ascending, the network's times.
    """

    gaussian: GaussianSchedule
    coords: CoordSchedule
    times: Tensor

    @classmethod
    def strided(
        cls,
        gaussian: GaussianSchedule,
        coords: CoordSchedule,
        steps: int,
        power: float = 1.0,
        latest: int | None = None,
    ) -> StepSchedule:
        """`steps` of the times 1..`latest` (T without it) by `strided_times`, with the same marginals."""
        times = strided_times(latest or gaussian.num_steps, steps, power)
        return cls(gaussian.take(times), coords.take(times), times)

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Step]:
        """From the noisiest to the last."""
        gaussian, coords = self.gaussian, self.coords
        for k in range(len(self), 0, -1):
            yield Step(
                number=k,
                time=int(self.times[k - 1]),
                alpha_bar=float(gaussian.alphas_cumprod[k]),
                next_alpha_bar=float(gaussian.alphas_cumprod[k - 1]),
                beta=float(gaussian.betas[k]),
                posterior_sigma=float(gaussian.posterior_sigmas[k]),
                sigma=float(coords.sigmas[k]),
                next_sigma=float(coords.sigmas[k - 1]),
                score_scale=float(coords.score_norms[k]) ** 0.5,
            )


def predict_coords(frac_coords: Tensor, negative_score: Tensor, step: Step, eps: Tensor | None) -> Tensor:
    """The ancestral step of coordinates along the score, not wrapped yet. CrysLDM, Algorithm 2, line 8.

    negative_score: what the network gives, (..., 3). eps: normal noise, None at the last step.
    Song et al. 2021 (score SDEs), Algorithm 2, its predictor for a variance that explodes.
    """
    gap = step.sigma**2 - step.next_sigma**2
    moved = frac_coords - gap * step.score_scale * negative_score
    return moved if eps is None else moved + step.next_sigma * gap**0.5 / step.sigma * eps


def correct_coords(frac_coords: Tensor, negative_score: Tensor, step: Step, size: float, eps: Tensor | None) -> Tensor:
    """A Langevin step of that size along the score, not wrapped yet. CrysLDM, Algorithm 2, line 11.

    negative_score, eps: as in `predict_coords`.
    """
    moved = frac_coords - size * step.score_scale * negative_score
    return moved if eps is None else moved + (2 * size) ** 0.5 * eps


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


def torch_seed(seed: int | Sequence[int]) -> int:
    """A seed for torch's generators, which take 63 bits, from `SeedSequence(seed)`."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))


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
