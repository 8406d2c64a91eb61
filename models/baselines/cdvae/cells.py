"""Cells as CDVAE predicts them: three lengths and three angles, and their matrix in the published orientation."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def lattices_from_parameters(lengths: Tensor, angles: Tensor) -> Tensor:
    """(B, 3, 3) cells, rows are vectors, c along z and a in the plane of x and z.

    lengths: (B, 3) Angstrom. angles: (B, 3) degrees, alpha between b and c. Angles that no cell has give a flat one.
    """
    cosines, sines = torch.cos(torch.deg2rad(angles)), torch.sin(torch.deg2rad(angles))
    # Cosine of the reciprocal angle gamma*.
    ratio = (cosines[:, 0] * cosines[:, 1] - cosines[:, 2]) / (sines[:, 0] * sines[:, 1])
    reciprocal = torch.arccos(ratio.clamp(-1.0, 1.0))
    zero = torch.zeros_like(ratio)
    a = torch.stack([lengths[:, 0] * sines[:, 1], zero, lengths[:, 0] * cosines[:, 1]], dim=1)
    b = torch.stack(
        [
            -lengths[:, 1] * sines[:, 0] * torch.cos(reciprocal),
            lengths[:, 1] * sines[:, 0] * torch.sin(reciprocal),
            lengths[:, 1] * cosines[:, 0],
        ],
        dim=1,
    )
    c = torch.stack([zero, zero, lengths[:, 2]], dim=1)
    return torch.stack([a, b, c], dim=1)


def parameters_of_lattices(lattices: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (B, 3) in Angstrom and angles (B, 3) in degrees of cells (B, 3, 3)."""
    lengths = lattices.norm(dim=-1)
    unit = lattices / lengths[..., None]
    cosines = torch.stack([(unit[:, i] * unit[:, j]).sum(-1) for i, j in ((1, 2), (0, 2), (0, 1))], dim=1)
    return lengths, torch.rad2deg(torch.arccos(cosines.clamp(-1.0, 1.0)))


def to_cartesian(frac_coords: Tensor, lattices: Tensor, crystal: Tensor) -> Tensor:
    """(A, 3) Cartesian coordinates; lattices: (B, 3, 3), or their inverses for the way back; crystal: (A,)."""
    return torch.einsum("ai,aij->aj", frac_coords, lattices[crystal])


def nearest_image(frac_shift: Tensor, lattices: Tensor, crystal: Tensor) -> Tensor:
    """(A, 3) shortest Cartesian vectors among the 27 images of shifts (A, 3) within one cell. lattices: (B, 3, 3)."""
    cells = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)), dtype=lattices.dtype)
    images = (frac_shift[:, None] + cells.to(frac_shift.device)) @ lattices[crystal]  # (A, 27, 3)
    nearest = images.square().sum(-1).argmin(dim=1)
    return images[torch.arange(len(images), device=images.device), nearest]
