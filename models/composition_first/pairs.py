"""Compositions as sequences: pairs (element, number of its atoms) in the order of electronegativity.

A set of elements has one order then, cations come before anions, and what is left of the N atoms says when to stop.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.arrays import IntArray


class Pairs(NamedTuple):
    """B compositions of at most K elements.

    ranks: (B, K) of the elements in `electronegativity_order`, ascending. counts: (B, K) atoms of each; 0 where a
    composition has no further element. num_atoms: (B,), their sum.
    """

    ranks: Tensor
    counts: Tensor
    num_atoms: Tensor


@lru_cache(maxsize=1)
def electronegativity_order(types: int = 100) -> IntArray:
    """Atomic numbers 1 to `types` by Pauling's electronegativity; those without one (noble gases) come last."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each noble gas
        values = [Element.from_Z(z).X for z in range(1, types + 1)]
    keys = [math.inf if math.isnan(value) else value for value in values]
    return np.argsort(keys, kind="stable").astype(np.int64) + 1


def ranks_of(atomic_numbers: Tensor, order: Tensor) -> Tensor:
    """The ranks of elements, of the shape of atomic_numbers. order: (types,), atomic number by rank."""
    rank_of = torch.empty_like(order)
    rank_of[order - 1] = torch.arange(len(order), device=order.device)
    return rank_of[atomic_numbers - 1]


def pairs_of(atomic_numbers: Tensor, order: Tensor) -> Pairs:
    """The compositions of crystals of one size. atomic_numbers: (B, N). order: (types,), atomic number by rank."""
    batch, num_atoms = atomic_numbers.shape
    ranks = ranks_of(atomic_numbers, order).sort(1).values  # (B, N)
    is_new = torch.cat([torch.ones_like(ranks[:, :1]), (ranks[:, 1:] != ranks[:, :-1]).long()], dim=1)
    place = is_new.cumsum(1) - 1  # (B, N) which pair an atom belongs to
    elements = int(place.max()) + 1
    counts = ranks.new_zeros(batch, elements).scatter_add(1, place, torch.ones_like(ranks))
    of_pairs = ranks.new_zeros(batch, elements).scatter(1, place, ranks)
    return Pairs(of_pairs, counts, ranks.new_full((batch,), num_atoms))


def atoms_of(pairs: Pairs, order: Tensor) -> list[IntArray]:
    """The atomic numbers of each composition, (N_b,), in the order of the pairs."""
    numbers, counts = order[pairs.ranks].cpu().numpy(), pairs.counts.cpu().numpy()
    return [np.repeat(row, times) for row, times in zip(numbers, counts, strict=True)]
