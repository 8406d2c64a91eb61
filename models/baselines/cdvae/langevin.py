"""Annealed Langevin dynamics: CDVAE's sampler of coordinates and atom types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.baselines.cdvae.cells import to_cartesian
from models.baselines.cdvae.gemnet import GemNetT
from models.baselines.cdvae.graph import Layout
from models.diffusion import Noise
from models.sampling import StepCallback


@dataclass(frozen=True)
class LangevinSettings:
    """How the sampler steps. step_size: at the smallest sigma (A^2). steps_per_level: at each noise level."""

    step_size: float = 1e-4
    steps_per_level: int = 100


def steps_of_levels(num_levels: int, steps: int) -> list[tuple[int, int]]:
    """(noise level, Langevin steps there) that make up `steps` in all.

    Every level gets the same number, the last (least noisy) ones one more where that does not come out even. With fewer
    steps than levels, evenly strided levels get one each, the last among them.
    """
    if steps < 1:
        raise ValueError(f"{steps} Langevin steps asked for; choose at least 1")
    if steps < num_levels:
        levels = torch.linspace(num_levels - 1, 0, steps + 1, dtype=torch.float64)[:-1].round().long().flip(0)
        return [(level, 1) for level in levels.tolist()]
    each, more = divmod(steps, num_levels)
    return [(level, each + (level >= num_levels - more)) for level in range(num_levels)]


@torch.no_grad()
def annealed_langevin(
    decoder: GemNetT,
    z: Tensor,
    atomic_numbers: Tensor,
    lattices: Tensor,
    layout: Layout,
    sigmas: Tensor,
    levels: Sequence[tuple[int, int]],
    settings: LangevinSettings,
    noise: Noise,
    callback: StepCallback | None = None,
) -> tuple[Tensor, Tensor]:
    """Fractional coordinates (A, 3) and atomic numbers (A,) of crystals with these latents, cells and first types.

    z: (B, latent_dim). atomic_numbers: (A,). lattices: (B, 3, 3). sigmas: (L,) noise of the levels in Angstrom, from
    large to small. levels: (level, steps) in order. Starts from uniform coordinates; one network evaluation a step,
    after which each atom has the type with the highest logit. Xie et al. 2022 (CDVAE), Algorithm 1. callback: is told
    after each step how many are done, and the state: "step", "steps", "sigma", "x" (fractional coordinates),
    "atomic_numbers", "num_atoms" and "lattices", which never change.
    """
    frac_coords = noise.uniform("coord", (len(atomic_numbers), 3)).to(lattices)
    # The cell of an untrained network may be flat, or not even finite: its crystal is lost, not its batch.
    inverses = torch.linalg.pinv(lattices.nan_to_num(0.0, 0.0, 0.0))
    steps = [level for level, repeats in levels for _ in range(repeats)]
    for done, level in enumerate(steps, start=1):
        sigma = sigmas[level]
        size = settings.step_size * (sigma / sigmas[-1]) ** 2
        random = noise.normal("coord", tuple(frac_coords.shape)) * (2 * size).sqrt()
        out = decoder(z, frac_coords, atomic_numbers, lattices, layout)
        cart_coords = to_cartesian(frac_coords, lattices, layout.crystal)
        cart_coords = cart_coords + size * (out.cart_coord_diff / sigma) + random
        frac_coords = to_cartesian(cart_coords, inverses, layout.crystal) % 1.0
        atomic_numbers = out.type_logits.argmax(dim=1) + 1
        if callback is not None:
            told = {"step": done, "steps": len(steps), "sigma": float(sigma), "lattices": lattices}
            callback({**told, "x": frac_coords, "atomic_numbers": atomic_numbers, "num_atoms": layout.num_atoms})
    return frac_coords, atomic_numbers
