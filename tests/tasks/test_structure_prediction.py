"""Which predictions match: as the published evaluations count, by k, and whichever composition they were made for."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher

from bench.crystals import Crystals, FilteredCrystals
from bench.datasets import reference_card
from bench.scoring.tables import score_in_memory
from bench.statistics import Metric
from tasks.structure_prediction import StructurePrediction, cpu_time_limit, shown_samples
from tests.random_crystals import random_crystals

PUBLISHED = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)


def caesium_chloride(numbers: tuple[int, int], edge: float = 4.1, at: float = 0.5) -> Crystals:
    return Crystals([2], numbers, [[0.0, 0.0, 0.0], [at, at, at]], [edge * np.eye(3)])


def layered(numbers: tuple[int, int]) -> Crystals:
    """The same atoms in another structure."""
    return Crystals([2], numbers, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]], [np.diag([2.9, 2.9, 7.9])])


def scored(references: list[Crystals], predictions: list[Crystals | None]) -> tuple[pa.Table, dict[str, Metric]]:
    task = StructurePrediction(Crystals.concatenate(references), {})
    there = [place for place, crystal in enumerate(predictions) if crystal is not None]
    reasons = {place: "missing" for place in range(len(predictions)) if place not in there}
    crystals = Crystals.concatenate([crystal for crystal in predictions if crystal is not None])
    table = score_in_memory([task], FilteredCrystals(crystals, np.array(there), reasons))[task.name]
    return table, task.summary({task.name: table}, reference_card("perov5"), 0)


def test_rmsd_is_that_of_the_published_call_on_the_cells_as_they_are() -> None:
    rng = np.random.default_rng(3)
    crystals = random_crystals([1, 2, 3, 4, 5, 6] * 2, 3)
    coords = crystals.frac_coords + rng.normal(scale=0.02, size=crystals.frac_coords.shape)
    moved = Crystals(crystals.num_atoms, crystals.atomic_numbers, coords, 1.03 * crystals.lattices)
    task = StructurePrediction(crystals, {})
    found = task.score(moved)["rmsd"].to_pylist()
    expected = [PUBLISHED.get_rms_dist(moved.structure(b), crystals.structure(b)) for b in range(len(crystals))]
    assert sum(pair is not None for pair in expected) > 6
    assert found == [None if pair is None else pytest.approx(pair[0], abs=1e-12) for pair in expected]


def test_what_a_pair_gives_does_not_depend_on_the_pairs_before_it() -> None:
    crystals = random_crystals([4], 1)
    shift = np.array([[0.0, 0, 0], [1e-7, 0, 0], [0, 1e-7, 0], [0, 0, 1e-7]])
    nearly = Crystals(crystals.num_atoms, crystals.atomic_numbers, crystals.frac_coords + shift, crystals.lattices)
    moved = Crystals(crystals.num_atoms, crystals.atomic_numbers, crystals.frac_coords + 1e5 * shift, crystals.lattices)
    task = StructurePrediction(crystals, {})
    alone = task.score(moved)["rmsd"].to_pylist()
    StructurePrediction(nearly, {}).score(moved)
    assert task.score(nearly)["rmsd"].to_pylist()[0] > 0
    assert StructurePrediction(crystals, {}).score(moved)["rmsd"].to_pylist() == alone


def test_a_composition_is_matched_where_any_of_its_samples_is_and_by_the_best_of_them() -> None:
    salt = (11, 17)
    far, near = caesium_chloride(salt, at=0.45), caesium_chloride(salt, at=0.49)
    table, metrics = scored([caesium_chloride(salt)], [layered(salt), far, near])
    rmsds = table["rmsd"].to_pylist()
    assert rmsds[0] is None
    assert rmsds[2] < rmsds[1]
    assert [metrics[f"match_rate_{k}"].value for k in (1, 2, 3)] == [0.0, 1.0, 1.0]
    assert metrics["match_rmsd_2"].value == rmsds[1]
    assert metrics["match_rmsd"].value == metrics["match_rmsd_3"].value == rmsds[2]


def test_a_match_of_an_invalid_composition_counts_only_without_the_rule() -> None:
    fluoride = Crystals([3], [9, 9, 11], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]], [4.4 * np.eye(3)])
    table, metrics = scored([fluoride], [fluoride])
    assert table["matches"].to_pylist() == [True]
    assert table["match"].to_pylist() == [False]
    assert metrics["match_rate"].value == metrics["metre"].value == metrics["match_ceiling"].value == 0.0
    assert metrics["match_rate_all"].value == 1.0


def test_metre_takes_a_match_that_was_made_for_another_polymorph() -> None:
    salt = (11, 17)
    one, other = caesium_chloride(salt), layered(salt)
    _, right = scored([one, other], [one, other])
    table, swapped = scored([one, other], [other, one])
    assert right["match_rate"].value == right["metre"].value == 1.0
    assert swapped["match_rate"].value == 0.0
    assert swapped["metre"].value == 1.0
    assert table["others"].to_pylist() == [[1], [0]]


def test_crmse_counts_what_is_not_matched_as_the_tolerance() -> None:
    salt = (11, 17)
    _, metrics = scored([caesium_chloride(salt)] * 2, [caesium_chloride(salt), None])
    assert metrics["match_rmsd"].value == pytest.approx(0.0, abs=1e-6)
    assert metrics["match_crmse"].value == pytest.approx(0.25, abs=1e-6)


def test_compositions_that_were_not_reached_are_not_matched() -> None:
    salt = (11, 17)
    _, metrics = scored([caesium_chloride(salt)] * 4, [caesium_chloride(salt)])
    assert metrics["match_rate"].value == 0.25
    assert "match_rate_1" not in metrics


def test_a_cell_that_the_matcher_cannot_bear_is_no_match_and_says_why() -> None:
    salt = (11, 17)
    needle = Crystals([2], salt, [[0, 0, 0], [0.5, 0.5, 0.5]], [np.diag([0.8, 0.8, 300.0])])
    table, _ = scored([caesium_chloride(salt)], [needle])
    assert table["matches"].to_pylist() == [False]
    assert "cell is too thin" in table["reason"].to_pylist()[0]


def test_a_pair_that_takes_too_long_is_given_up_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_ever(one: object, other: object) -> None:
        while True:
            pass

    monkeypatch.setattr("tasks.structure_prediction.Primitive.rms_distance", for_ever)
    monkeypatch.setattr("tasks.structure_prediction.PAIR_LIMIT_S", 0.1)
    salt = (11, 17)
    table, _ = scored([caesium_chloride(salt)], [caesium_chloride(salt)])
    assert table["matches"].to_pylist() == [False]
    assert table["reason"].to_pylist() == ["matching a pair took more than 0.1 s of processor time"]


def test_a_limit_of_processor_time_leaves_no_alarm_behind() -> None:
    with cpu_time_limit(0.05):
        pass
    started = time.process_time()
    while time.process_time() - started < 0.15:
        pass


def test_figures_are_given_at_the_published_k_and_at_the_last() -> None:
    assert shown_samples(0) == []
    assert shown_samples(1) == [1]
    assert shown_samples(20) == [1, 2, 5, 10, 20]
    assert shown_samples(7) == [1, 2, 5, 7]
