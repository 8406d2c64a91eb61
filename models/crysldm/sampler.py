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

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from models.bounds import STRIDED_MIN_VOLUME
from models.denoiser import Denoiser
from models.diffusion import Noise, Step, StepSchedule, add_noise, correct_coords, predict_coords, predicted_clean
from models.guidance import Guidance
from models.sampling import StepCallback

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

    latent_step: "ancestral" (lines 6-7) or "ddim" (the deterministic step of Song et al. 2021, better for few steps).
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

    def for_few_steps(self) -> SamplerSettings:
        """The same, changed where fewer steps than T would fail: DDIM steps, and cells that do not flatten."""
        return replace(self, latent_step="ddim", min_volume=STRIDED_MIN_VOLUME)


def initial_state(noise: Noise, num_crystals: int, num_atoms: int, latent_dim: int) -> LatentState:
    """Line 2: normal latents, uniform coordinates."""
    z_h = noise.normal("latent", (num_crystals, num_atoms, latent_dim))
    z_lattice = noise.normal("latent lattice", (num_crystals, 3, 3))
    return LatentState(z_h, noise.uniform("coord", (num_crystals, num_atoms, 3)), z_lattice)


def sample_latent(
    denoiser: Denoiser,
    state: LatentState,
    schedule: StepSchedule,
    settings: SamplerSettings,
    noise: Noise,
    callback: StepCallback | None = None,
) -> LatentState:
    """Algorithm 2, lines 3-12: latents by DDPM (or DDIM), coordinates by predictor and Langevin corrector.

    No noise at the last step. callback: is told after each step how many are done, and the state: "step", "steps",
    "time", "x" (fractional coordinates), "z_h" and "z_lattice".
    """
    z_h, x, z_lattice = state.z_h, state.frac_coords, state.z_lattice
    latent_step = ddim_step if settings.latent_step == "ddim" else ancestral_step
    for step in schedule:
        predicted = denoiser.predict(z_h, x, z_lattice, step)  # line 5
        x = predict_coords(x, predicted.coord, step, _draw_unless_last(noise, x, step))  # line 8
        if settings.corrector != "none":
            # At the last step sigma_0 = 0 and the corrector moves nothing; evaluated all the same, as written.
            score = denoiser.negative_score(z_h, x, z_lattice, step)  # line 9
            size = corrector_size(settings, step)  # line 10
            x = correct_coords(x, score, step, size, _draw_unless_last(noise, x, step))  # line 11
        x = x % 1.0
        z_h = latent_step(z_h, predicted.node, step, noise, "latent")  # line 6
        z_lattice = latent_step(z_lattice, predicted.lattice, step, noise, "latent lattice")  # line 7
        if callback is not None:
            done = len(schedule) - step.number + 1
            told = {"step": done, "steps": len(schedule), "time": step.time}
            callback({**told, "x": x, "z_h": z_h, "z_lattice": z_lattice})
    return LatentState(z_h, x, z_lattice)


def corrector_size(settings: SamplerSettings, step: Step) -> float:
    """Line 10: eta_t, step_size sigma_{t-1}^2 / sigma_t ("eta"); without the division for "variance"."""
    return settings.step_size * step.next_sigma**2 / (step.sigma if settings.corrector == "eta" else 1.0)


def ancestral_step(z: Tensor, eps: Tensor, step: Step, noise: Noise, name: str) -> Tensor:
    """Lines 6 and 7: from z_t and its predicted noise to a draw of z_{t-1}. Ho et al. 2020 (DDPM), Algorithm 2.

    name: of the latent, for the draws.
    """
    mean = (z - step.beta / (1 - step.alpha_bar) ** 0.5 * eps) / (1 - step.beta) ** 0.5
    return mean if step.is_last else mean + step.posterior_sigma * noise.normal(name, tuple(z.shape))


def ddim_step(z: Tensor, eps: Tensor, step: Step, noise: Noise, name: str) -> Tensor:
    """The deterministic step in their place: the clean latent, noised to t-1. Song et al. 2021 (DDIM), eq. 12."""
    return add_noise(predicted_clean(z, eps, step.alpha_bar), eps, step.next_alpha_bar)


def _draw_unless_last(noise: Noise, x: Tensor, step: Step) -> Tensor | None:
    return None if step.is_last else noise.normal("coord", tuple(x.shape))
