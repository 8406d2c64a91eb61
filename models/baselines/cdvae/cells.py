"""Cells as CDVAE predicts them: three lengths and three angles, and their matrix in the published orientation."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def lattices_from_parameters(lengths: Tensor, angles: Tensor) -> Tensor:
    """(B, 3, 3) cells, rows are vectors, c along z and a in the plane of x and z.

    lengths: (B, 3) Angstrom. angles: (B, 3) degrees, alpha between b and c. Angles that no cell has give a flat one.

    So a = |a| (sin beta, 0, cos beta) and c = |c| (0, 0, 1); b has |b| cos alpha along z and |b| sin alpha across it,
    turned about z by phi. From a . b = |a| |b| cos gamma follows cos gamma = cos alpha cos beta + sin alpha sin beta
    cos phi, the spherical law of cosines; phi = pi - gamma*, which is an angle of the reciprocal cell.
    """
    radians = torch.deg2rad(angles)
    cos_alpha, cos_beta, cos_gamma = torch.cos(radians).unbind(1)
    sin_alpha, sin_beta, _ = torch.sin(radians).unbind(1)
    a, b, c = lengths.unbind(1)
    cos_gamma_star = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)
    # Through the angle, as published: its rounding decides which of several equally near images are neighbours.
    gamma_star = torch.arccos(cos_gamma_star.clamp(-1.0, 1.0))
    across = b * sin_alpha
    zero = torch.zeros_like(across)
    rows = (
        (a * sin_beta, zero, a * cos_beta),
        (-across * torch.cos(gamma_star), across * torch.sin(gamma_star), b * cos_alpha),
        (zero, zero, c),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


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
