"""Scoring 200 crystals in one process: our batches against one pymatgen structure and one SMACT call at a time."""

import itertools
import warnings

import numpy as np
import pytest
from smact.screening import smact_validity

from bench.crystals import Crystals
from tasks.properties import Properties
from tasks.validity import MIN_DISTANCE_ANGSTROM, MIN_VOLUME_ANGSTROM3, Validity


def perovskite_like(number, seed):
    """Five atoms of up to five elements in a strained cubic cell of 4 A, sites a little off their places."""
    rng = np.random.default_rng(seed)
    metals, anions = [3, 11, 12, 13, 20, 22, 26, 29, 38, 40, 56, 57, 82], [7, 8, 9, 16]
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    numbers = np.concatenate([[*rng.choice(metals, 2, replace=False), *rng.choice(anions, 3)] for _ in range(number)])
    coords = np.tile(sites, (number, 1)) + rng.normal(size=(5 * number, 3)) * 0.02
    cells = np.eye(3) * 4 + rng.normal(size=(number, 3, 3)) * 0.1
    return Crystals(np.full(number, 5), numbers, coords, cells)


def other_crystals_each_round():
    """So that no round finds its compositions remembered."""
    seeds = itertools.count()
    return lambda: ((perovskite_like(200, next(seeds)),), {})


def plain(crystals):
    """The published definitions one crystal at a time: (valid composition, valid structure, density, elements)."""
    rows = []
    for structure in crystals:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compositions = [smact_validity(structure.composition, oxidation_states_set=s) for s in ("smact14", None)]
        distances = structure.distance_matrix + np.diag(np.full(len(structure), np.inf))
        valid = distances.min() > MIN_DISTANCE_ANGSTROM and structure.volume >= MIN_VOLUME_ANGSTROM3
        rows.append((*compositions, bool(valid), float(structure.density), len(structure.composition)))
    return rows


def ours(crystals):
    validity, properties = Validity().score(crystals), Properties().score(crystals)
    names = ("valid_composition", "valid_composition_icsd24", "valid_structure")
    columns = [validity[name] for name in names] + [properties["density"], properties["num_elements"]]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


@pytest.mark.benchmark(group="scoring")
def test_scoring_crystals_one_at_a_time_reference(benchmark):
    benchmark.pedantic(plain, setup=other_crystals_each_round(), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="scoring")
def test_scoring_crystals_in_batches(benchmark):
    benchmark.pedantic(ours, setup=other_crystals_each_round(), rounds=5, warmup_rounds=1)
    crystals = perovskite_like(200, seed=99)
    for row, expected in zip(ours(crystals), plain(crystals), strict=True):
        assert row == pytest.approx(expected, rel=1e-9)
