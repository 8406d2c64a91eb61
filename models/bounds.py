"""Bounds on the clean data that predicted noise implies, for networks and step counts that need them.

With few steps, or a small network, the first steps multiply errors of the predicted noise: cells explode or flatten.
A bound changes the predicted noise so that what it implies is a possible crystal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.cspnet import CSPNetOutput
from models.diffusion import implied_noise, predicted_clean

# Volume per atom (A^3) below which hardly a cell of the training data lies: one of 1000 has less than 7.85 (Perov-5)
# or 7.38 (MP-20). In few steps small networks flatten cells: of all orientations of a nearly flat cell the mean is
# flat, so a network leaves a plane slowly that a cell has fallen into.
STRIDED_MIN_VOLUME = 7.5


def bounded_entries(noisy: Tensor, eps: Tensor, alpha_bar: float, bound: float) -> Tensor:
    """Predicted noise, changed so that every entry of the implied clean value lies within +-bound.

    noisy: what `add_noise` gave at alpha_bar.
    """
    clean = predicted_clean(noisy, eps, alpha_bar).clamp(-bound, bound)
    return implied_noise(noisy, clean, alpha_bar)


def bounded_norm(noisy: Tensor, eps: Tensor, alpha_bar: float, bound: float) -> Tensor:
    """Predicted noise of matrices, changed so that the clean ones have Frobenius norm <= bound; equivariant.

    noisy, eps: (B, 3, 3), as in `bounded_entries`.
    """
    clean = predicted_clean(noisy, eps, alpha_bar)
    clean = clean * (bound / clean.flatten(1).norm(dim=1).clamp_min(bound))[:, None, None]
    return implied_noise(noisy, clean, alpha_bar)


def bounded_volume(noisy: Tensor, eps: Tensor, alpha_bar: float, smallest: float) -> Tensor:
    """Predicted noise of matrices, changed so that the clean ones have |det| >= `smallest`; equivariant.

    noisy, eps: (B, 3, 3), as in `bounded_entries`. A cell that is too small gets its flattest direction raised, no
    further than the next one, and is then scaled; the others are left as they are, bit for bit. So are all of them
    while there is less signal than noise (alpha_bar < 0.5): what is implied is a mean over many orientations then. Just
    above that it still is over some, and cells that would not have flattened are raised a little with the others.
    """
    if alpha_bar < 0.5:
        return eps
    clean = predicted_clean(noisy, eps, alpha_bar)
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
    bounded[rows] = implied_noise(noisy[rows], raised, alpha_bar)
    return bounded


@dataclass(frozen=True)
class Bounds:
    """Which bounds a sampler keeps; None for none. entries: of nodes. norm, volume: of lattices."""

    entries: float | None = None
    norm: float | None = None
    volume: float | None = None

    def apply(self, out: CSPNetOutput, nodes: Tensor, lattices: Tensor, alpha_bar: float) -> CSPNetOutput:
        """The prediction with its noise bounded. nodes: (B, N, D) and lattices: (B, 3, 3), both noisy."""
        eps_nodes, eps_lattices = out.node, out.lattice
        if self.entries is not None:
            eps_nodes = bounded_entries(nodes, eps_nodes, alpha_bar, self.entries)
        if self.norm is not None:
            eps_lattices = bounded_norm(lattices, eps_lattices, alpha_bar, self.norm)
        if self.volume is not None:
            eps_lattices = bounded_volume(lattices, eps_lattices, alpha_bar, self.volume)
        return out._replace(node=eps_nodes, lattice=eps_lattices)
