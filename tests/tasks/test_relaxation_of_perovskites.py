"""Crystals far from any minimum, as half of Perov-5 are: which minimum they fall into, by ours and by ASE's FIRE."""

import os

import numpy as np
import pytest

from bench.crystals import Crystals
from bench.datasets import load_split
from tasks.stability.potentials import load_potential
from tasks.stability.relaxation import RelaxationSettings, reduced, relax
from tests.ase_relaxation import relax_by_ase

pytestmark = [pytest.mark.needs_potentials, pytest.mark.needs_data]
NUMBER = int(os.environ.get("BENCH_PEROVSKITES", "24"))
SAME = 0.002  # eV/atom


def displaced(crystals, by_angstrom, seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for b in range(len(crystals)):
        numbers, coords, lattice = crystals.arrays(b)
        positions = coords @ lattice + rng.normal(size=coords.shape) * by_angstrom
        parts.append(Crystals([len(numbers)], numbers, positions @ np.linalg.inv(lattice), lattice[None]))
    return Crystals.concatenate(parts)


def energies(outcomes, crystals):
    return np.array([outcome.energy for outcome in outcomes]) / crystals.num_atoms


def geometries(outcomes, crystals):
    return Crystals(
        crystals.num_atoms,
        crystals.atomic_numbers,
        np.concatenate([outcome.frac_coords for outcome in outcomes]),
        np.stack([outcome.lattice for outcome in outcomes]),
    )


@pytest.fixture(scope="module")
def perovskites():
    split = load_split("perov5", "test")
    return split[np.random.default_rng(11).permutation(len(split))[:NUMBER]]


@pytest.mark.slow
def test_crystals_without_symmetry_end_in_minima_and_exactly_symmetric_ones_may_not(perovskites):
    potential = load_potential("m3gnet")
    for start, low, high in ((displaced(perovskites, 0.05), 0.9, 1.0), (perovskites, 0.0, 0.7)):
        ends = relax(start, potential)
        again = relax(displaced(geometries(ends, start), 0.02, seed=1), potential)
        stayed = energies(ends, start) - energies(again, start) < SAME
        assert low <= stayed.mean() <= high


@pytest.mark.nightly
def test_ours_end_no_higher_than_those_of_fire_more_often_than_lower(perovskites):
    potential, settings = load_potential("m3gnet"), RelaxationSettings()
    start = displaced(perovskites, 0.05)
    ours = energies(relax(start, potential, settings), start)
    theirs = [relax_by_ase(reduced(start[b]), 0, potential, settings.fmax)[0] for b in range(len(start))]
    difference = ours - np.array(theirs) / start.num_atoms
    higher, lower = int((difference > SAME).sum()), int((difference < -SAME).sum())
    print(f"{len(start)} crystals: {lower} lower, {higher} higher than FIRE, mean {difference.mean():+.3f} eV/atom")
    assert higher <= lower + 2 * np.sqrt(higher + lower)  # a sign test at two standard errors
