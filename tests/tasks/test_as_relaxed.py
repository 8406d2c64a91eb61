"""What relaxing changes, and S.U.N. by relaxed crystals."""

from __future__ import annotations

import numpy as np
import pytest

from bench.crystals import Crystals
from bench.datasets import DataUnavailable
from bench.statistics import wilson
from tasks import novelty
from tasks.as_relaxed import changes, sun_rate_relaxed
from tasks.novelty import TrainingCrystals

SITES = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
KNOWN = [81, 27, 7, 7, 8]  # TlCoN2O, a formula of the training split of Perov-5
FOREIGN = [94, 93, 9, 9, 9]  # not one of it
LAYERED = SITES * [1, 1, 0.6]  # no cubic perovskite any more
SWAPPED = SITES[[1, 0, 2, 3, 4]]  # another structure: the first two elements have changed places


def perovskites(*crystals: tuple[list[int], np.ndarray]) -> Crystals:
    return Crystals(
        np.full(len(crystals), 5),
        np.concatenate([numbers for numbers, _ in crystals]),
        np.concatenate([sites for _, sites in crystals]),
        np.tile(4.0 * np.eye(3), (len(crystals), 1, 1)),
    )


@pytest.fixture(autouse=True)
def one_training_crystal(monkeypatch: pytest.MonkeyPatch) -> None:
    training = TrainingCrystals(perovskites((KNOWN, SITES)))
    monkeypatch.setattr(novelty, "training_crystals", lambda dataset, rules: training)


def test_a_crystal_that_relaxes_onto_a_training_crystal_is_no_longer_novel() -> None:
    given, relaxed = perovskites((KNOWN, SWAPPED)), perovskites((KNOWN, SITES))
    columns = changes("perov5", given, relaxed, np.array([True]), ["novelty"])
    assert columns["novel_relaxed"].to_pylist() == [False]
    assert changes("perov5", relaxed, given, np.array([True]), ["novelty"])["novel_relaxed"].to_pylist() == [True]


def test_space_groups_are_those_before_and_after() -> None:
    given, relaxed = perovskites((FOREIGN, LAYERED)), perovskites((FOREIGN, SITES))
    columns = changes("perov5", given, relaxed, np.array([True]), [])
    assert columns["space_group_relaxed"].to_pylist() == [221]
    assert columns["space_group_as_generated"].to_pylist() == [99]
    assert set(columns) == {"space_group_as_generated", "space_group_relaxed"}


def test_a_crystal_whose_atoms_move_apart_becomes_valid() -> None:
    rock_salt = [12, 8]
    two = np.array([2])
    close = Crystals(two, rock_salt, np.array([[0, 0, 0], [0.1, 0, 0]]), 4.0 * np.eye(3)[None])
    apart = Crystals(two, rock_salt, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 4.0 * np.eye(3)[None])
    assert changes("perov5", close, apart, np.array([True]), ["validity"])["valid_relaxed"].to_pylist() == [True]
    assert changes("perov5", apart, close, np.array([True]), ["validity"])["valid_relaxed"].to_pylist() == [False]


def test_a_crystal_that_was_not_relaxed_has_nulls_at_its_place() -> None:
    given = perovskites((KNOWN, SITES), (FOREIGN, LAYERED), (FOREIGN, SITES))
    has_relaxed = np.array([False, True, True])
    columns = changes("perov5", given, given[[1, 2]], has_relaxed, ["validity", "novelty"])
    assert columns["space_group_relaxed"].to_pylist() == [None, 99, 221]
    assert columns["novel_relaxed"].to_pylist() == [None, True, True]
    assert columns["valid_relaxed"].to_pylist()[0] is None


def test_crystals_that_relax_into_one_structure_count_once() -> None:
    apart, same = perovskites((FOREIGN, SITES), (FOREIGN, SWAPPED)), perovskites((FOREIGN, SITES), (FOREIGN, SITES))
    assert sun_rate_relaxed("perov5", apart, 10) == wilson(2, 10)
    assert sun_rate_relaxed("perov5", same, 10) == wilson(1, 10)


def test_a_training_crystal_does_not_count_and_none_at_all_is_a_rate_of_zero() -> None:
    assert sun_rate_relaxed("perov5", perovskites((KNOWN, SITES), (KNOWN, SWAPPED)), 4) == wilson(1, 4)
    assert sun_rate_relaxed("perov5", Crystals.empty(), 4) == wilson(0, 4)


def test_without_the_training_crystals_the_rate_has_only_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(dataset: str, rules: str | None) -> TrainingCrystals:
        raise DataUnavailable("no data")

    monkeypatch.setattr(novelty, "training_crystals", absent)
    found = sun_rate_relaxed("perov5", perovskites((KNOWN, SITES), (FOREIGN, SITES)), 4)
    assert (found.value, found.low, found.high) == (None, wilson(1, 4).low, wilson(2, 4).high)
