"""Cells as six whole numbers: the shape of the reduced cell in steps, then its volume per atom.

Most cells have lengths and angles that are equal or 60, 90 or 120 degrees. A step that holds such cells stands for
exactly that: what a step means is the median of the training cells in it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from models.baselines.cdvae.cells import parameters_of_lattices
from models.dense import DenseBatch

NUM_STEPS = 128
# What the six numbers count, each from a middle in steps of a width: ln(b / a), ln(c / b), alpha, beta and gamma in
# degrees, and ln of the volume per atom in Angstrom^3.
MIDDLES = (0.0, 0.0, 90.0, 90.0, 90.0, math.log(20.0))
WIDTHS = (0.03, 0.03, 2.0, 2.0, 2.0, 0.04)
NUM_TOKENS = len(MIDDLES)
ALPHA, BETA, GAMMA = 2, 3, 4
# Squared volume of a cell of unit edges, 1 + 2 cos cos cos - cos^2 - cos^2 - cos^2: angles that give less are no cell.
FLATTEST = 0.02


def quantities(batch: DenseBatch) -> Tensor:
    """(B, 6) float64, in the units of `MIDDLES`."""
    lattices = batch.lattices.double()
    lengths, angles = parameters_of_lattices(lattices)
    ratios = (lengths[:, 1:] / lengths[:, :-1]).log()
    volumes = torch.linalg.det(lattices).abs() / batch.num_atoms
    return torch.cat([ratios, angles, volumes.log()[:, None]], dim=1)


def tokens_of(values: Tensor) -> Tensor:
    """(B, 6) steps, 0 .. NUM_STEPS - 1, of quantities (B, 6); those beyond the last step take it."""
    steps = (values - values.new_tensor(MIDDLES)) / values.new_tensor(WIDTHS)
    return (steps.round().long() + NUM_STEPS // 2).clamp(0, NUM_STEPS - 1)


def fit_meanings(batches: list[DenseBatch]) -> Tensor:
    """(6, NUM_STEPS) float64: what each step of each quantity means, infinite where no crystal has it."""
    meanings = torch.full((NUM_TOKENS, NUM_STEPS), torch.inf, dtype=torch.float64)
    values = torch.cat([quantities(batch) for batch in batches]).cpu()
    tokens = tokens_of(values)
    for k in range(NUM_TOKENS):
        for step in tokens[:, k].unique():
            meanings[k, step] = float(np.median(values[tokens[:, k] == step, k].numpy()))
    return meanings


def possible(tokens: Tensor, meanings: Tensor) -> Tensor:
    """(B, NUM_STEPS) which steps of the next quantity training cells have, and make a cell. tokens: (B, those before).

    Where no gamma makes a cell with alpha and beta, the one that comes nearest to it.
    """
    place = tokens.shape[1]
    seen = meanings[place].isfinite().expand(len(tokens), -1)
    if place != GAMMA:
        return seen
    alpha, beta = (torch.deg2rad(meanings[k, tokens[:, k]]).cos()[:, None] for k in (ALPHA, BETA))
    volumes = _squared_unit_volume(alpha, beta, torch.deg2rad(meanings[GAMMA]).cos()[None])
    volumes = volumes.masked_fill(~seen, -torch.inf)
    return volumes > torch.minimum(volumes.new_tensor(FLATTEST), volumes.amax(1, keepdim=True) - 1e-9)


def lattices_of(tokens: Tensor, num_atoms: int, meanings: Tensor) -> Tensor:
    """(B, 3, 3) float64 in Angstrom: a along x, b in the plane of x and y. tokens: (B, 6), of possible cells."""
    values = torch.stack([meanings[k, tokens[:, k]] for k in range(NUM_TOKENS)], dim=1)
    b, c = values[:, 0].exp(), (values[:, 0] + values[:, 1]).exp()
    cos_alpha, cos_beta, cos_gamma = torch.deg2rad(values[:, ALPHA : GAMMA + 1]).cos().unbind(1)
    sin_gamma = (1 - cos_gamma**2).sqrt()
    height = _squared_unit_volume(cos_alpha, cos_beta, cos_gamma).clamp_min(FLATTEST).sqrt() / sin_gamma
    zero, one = torch.zeros_like(b), torch.ones_like(b)
    rows = (
        torch.stack([one, zero, zero], dim=1),
        torch.stack([b * cos_gamma, b * sin_gamma, zero], dim=1),
        torch.stack([c * cos_beta, c * (cos_alpha - cos_beta * cos_gamma) / sin_gamma, c * height], dim=1),
    )
    shapes = torch.stack(rows, dim=1)
    volumes = num_atoms * values[:, 5].exp()
    return shapes * (volumes / torch.linalg.det(shapes))[:, None, None] ** (1 / 3)


def _squared_unit_volume(cos_alpha: Tensor, cos_beta: Tensor, cos_gamma: Tensor) -> Tensor:
    return 1 + 2 * cos_alpha * cos_beta * cos_gamma - cos_alpha**2 - cos_beta**2 - cos_gamma**2
