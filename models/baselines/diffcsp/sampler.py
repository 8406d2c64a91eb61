"""DiffCSP's predictor-corrector sampler."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.bounds import STRIDED_MIN_VOLUME, Bounds
from models.denoiser import Denoiser
from models.diffusion import Noise, Step, StepSchedule, correct_coords, predict_coords
from models.guidance import Guidance
from models.sampling import StepCallback

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

    def for_few_steps(self) -> SamplerSettings:
        """The same, changed where fewer steps than T would fail: clean values bounded, and cells kept from flattening.

        From 3 steps on that is enough.
        """
        return replace(self, clamp=self.clamp or STRIDED_CLAMP, min_volume=STRIDED_MIN_VOLUME)

    def bounds(self, num_atoms: int) -> Bounds:
        """On the implied clean crystals of N atoms."""
        norm, entries = self.clamp or (None, None)
        return Bounds(entries, norm, None if self.min_volume is None else self.min_volume * num_atoms)


def initial_state(noise: Noise, num_crystals: int, num_atoms: int, num_types: int) -> CrystalState:
    """The prior: normal lattices and types, uniform coordinates, drawn in the published order."""
    lattices = noise.normal("lattice", (num_crystals, 3, 3))
    frac_coords = noise.uniform("coord", (num_crystals, num_atoms, 3))
    return CrystalState(noise.normal("type", (num_crystals, num_atoms, num_types)), frac_coords, lattices)


def sample_predictor_corrector(
    denoiser: Denoiser,
    state: CrystalState,
    schedule: StepSchedule,
    settings: SamplerSettings,
    noise: Noise,
    callback: StepCallback | None = None,
    types_given: bool = False,
) -> CrystalState:
    """Ancestral steps for lattice and types; Langevin corrector and ancestral predictor for coordinates.

    Two network evaluations a step, corrector first (one without it). Jiao et al. 2023, Algorithm 2; the order of draws,
    and that the corrector also draws (unused) noise for lattice and types, follow the published code, so that a batch
    can be replayed from its draws. The last step adds no noise. callback: is told after each step how many are done,
    and the state: "step", "steps", "time", "x" (fractional coordinates), "types" (scores) and "lattices".
    types_given: the types are known and stay as they are, without draws (crystal structure prediction).
    """
    types, x, lattices = state.types, state.frac_coords, state.lattices
    for step in schedule:
        if settings.corrector:
            eps = _draw(noise, lattices, types, x, step, types_given)
            score = denoiser.negative_score(types, x, lattices, step)
            x = correct_coords(x, score, step, corrector_size(settings, step), eps.frac_coords)
        eps = _draw(noise, lattices, types, x, step, types_given)
        predicted = denoiser.predict(types, x, lattices, step)
        x = predict_coords(x, predicted.coord, step, eps.frac_coords) % 1.0
        lattices = ancestral_step(lattices, predicted.lattice, step, eps.lattices)
        if not types_given:
            types = ancestral_step(types, predicted.node, step, eps.types)
        if callback is not None:
            done = len(schedule) - step.number + 1
            told = {"step": done, "steps": len(schedule), "time": step.time}
            callback({**told, "x": x, "types": types, "lattices": lattices})
    return CrystalState(types, x, lattices)


def corrector_size(settings: SamplerSettings, step: Step) -> float:
    """The Langevin step, in proportion to the variance: step_lr (sigma / sigma_begin)^2."""
    return settings.step_lr * (step.sigma / settings.sigma_begin) ** 2


def ancestral_step(noisy: Tensor, predicted_noise: Tensor, step: Step, eps: Tensor) -> Tensor:
    """From values and their predicted noise to a draw of the next less noisy ones. Ho et al. 2020 (DDPM), Algorithm 2.

    eps: normal noise, zeros at the last step. It multiplies where CrysLDM's divides: as published, to the last bit.
    """
    shrink, weight = (1 - step.beta) ** -0.5, step.beta / (1 - step.alpha_bar) ** 0.5
    return shrink * (noisy - weight * predicted_noise) + step.posterior_sigma * eps


def _draw(noise: Noise, lattices: Tensor, types: Tensor, x: Tensor, step: Step, types_given: bool) -> CrystalState:
    """Normal noise for a whole state, in the published order; zeros at the last step, and for types that are given."""
    drawn = (("lattice", lattices), ("type", types), ("coord", x))
    lattice, kind, coord = (
        torch.zeros_like(like)
        if step.is_last or (name == "type" and types_given)
        else noise.normal(name, tuple(like.shape))
        for name, like in drawn
    )
    return CrystalState(kind, coord, lattice)
