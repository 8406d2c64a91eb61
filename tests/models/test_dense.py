"""Packing crystals by size and back."""

import numpy as np
import torch

from models.dense import DenseBatch, buckets, pack, unpack
from tests.random_crystals import random_crystals


def test_crystals_come_back_in_their_places():
    crystals = random_crystals([3, 1, 3, 20, 1, 5])
    batches = pack(crystals, torch.float64)
    places = [indices for _, indices in buckets(crystals.num_atoms)]
    back = unpack(batches, places)
    assert back.crystals == crystals
    assert not back.reasons


def test_what_a_network_makes_not_finite_costs_itself_alone():
    crystals = random_crystals([2, 2, 2])
    (batch,) = pack(crystals, torch.float64)
    lattices = batch.lattices.clone()
    lattices[1] = float("nan")
    back = unpack([DenseBatch(batch.atomic_numbers, batch.frac_coords, lattices)], [np.arange(3)])
    assert back.indices.tolist() == [0, 2]
    assert "not finite" in back.reasons[1]
    assert back.crystals == crystals[[0, 2]]
