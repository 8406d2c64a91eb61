"""The decoder's graph: edges with their reverses, and the angles of all pairs of edges that enter one atom."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.baselines.cdvae.graph import Edges


class CrystalGraph(NamedTuple):
    """What all blocks share of the geometry, with A atoms and 2 H edges (forward, then their reverses).

    sources, targets: (2 H,). distances: (H,). directions: (2 H, 3) unit vectors from source to target.
    slot: (2 H,) place of each edge among the padded edges (A, K) that enter an atom. angular: (A, 7 K, K) polynomials
    of the cosine between two edges that enter one atom, by degree, 0 between an edge and itself. rows: (2 H * 7,) where
    the degrees of each edge lie among (A * 7 K).
    """

    sources: Tensor
    targets: Tensor
    distances: Tensor
    directions: Tensor
    slot: Tensor
    angular: Tensor
    rows: Tensor


def symmetric_graph(forward: Edges, num_atoms: int, num_spherical: int) -> CrystalGraph:
    """The graph of the forward edges and their reverses."""
    sources = torch.cat([forward.sources, forward.targets])
    targets = torch.cat([forward.targets, forward.sources])
    distances = forward.vectors.norm(dim=-1)
    away = forward.vectors / distances[:, None]
    directions = torch.cat([-away, away])

    order = _stable_order(targets, num_atoms)
    entering = torch.bincount(targets, minlength=num_atoms)
    width = max(int(entering.max()), 1)
    starts = entering.cumsum(0) - entering
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - starts.index_select(0, targets.index_select(0, order))
    slot = targets * width + rank

    padded = directions.new_zeros(num_atoms * width, 3).index_copy(0, slot, directions).view(num_atoms, width, 3)
    cosines = torch.bmm(padded, padded.transpose(1, 2))
    angular = polynomials(cosines, num_spherical)
    angular.diagonal(dim1=2, dim2=3).zero_()
    # Row of (atom, degree, edge) in the flattened angular sums.
    first = targets * (num_spherical * width) + rank
    rows = first[:, None] + torch.arange(num_spherical, device=order.device) * width
    return CrystalGraph(sources, targets, distances, directions, slot, angular.flatten(1, 2), rows.flatten())


def _stable_order(atoms: Tensor, num_atoms: int) -> Tensor:
    """(E,) order that sorts atoms (E,) < num_atoms stably; on a CPU by NumPy's radix sort of small integers."""
    if atoms.device.type != "cpu" or num_atoms > np.iinfo(np.uint16).max:
        return atoms.argsort(stable=True)
    return torch.from_numpy(atoms.numpy().astype(np.uint16).argsort(kind="stable"))


def polynomials(x: Tensor, count: int) -> Tensor:
    """(A, count, K, K) Legendre polynomials P_0 .. of x (A, K, K), each up to a factor that saves an operation."""
    ratios = recursion(count)[0]
    if x.requires_grad:
        values = [torch.ones_like(x), x]
        for degree in range(2, count):
            values.append(torch.addcmul(values[-2], x, values[-1], value=ratios[degree]))
        return torch.stack(values[:count], dim=1)
    filled = x.new_empty(len(x), count, *x.shape[1:])
    filled[:, 0] = 1.0
    filled[:, 1:2] = x[:, None]
    for degree in range(2, count):
        torch.addcmul(filled[:, degree - 2], x, filled[:, degree - 1], value=ratios[degree], out=filled[:, degree])
    return filled


@lru_cache(maxsize=8)
def recursion(count: int) -> tuple[list[float], list[float]]:
    """What `polynomials` multiplies by, and the factors from its values to sqrt((2 l + 1) / 4 pi) P_l.

    l P_l = (2 l - 1) x P_(l-1) - (l - 1) P_(l-2), so with P_l = c_l Q_l and c_l = -(l - 1) / l c_(l-2) it is
    Q_l = r_l x Q_(l-1) + Q_(l-2), where r_l = (2 l - 1) / l c_(l-1) / c_l.
    """
    ratios, factors = [1.0, 1.0], [1.0, 1.0]
    for degree in range(2, count):
        factors.append(-(degree - 1) / degree * factors[degree - 2])
        ratios.append((2 * degree - 1) / degree * factors[degree - 1] / factors[degree])
    return ratios, [f * math.sqrt((2 * degree + 1) / (4 * math.pi)) for degree, f in enumerate(factors)][:count]
