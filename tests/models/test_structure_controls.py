"""Controls of crystal structure prediction: right atoms, the nearest formula, chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.crystals import Crystals
from bench.testing import check_generator, check_structure_predictor
from models.baselines.structure_controls import RandomStructures, Templates, by_count, orders_of_equals
from tests.bench.small_perov5 import cache_folder, small_perov5  # noqa: F401 (fixtures)

ROCK = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def training() -> Crystals:
    """SrTiO3 in its order of the file, and a hexagonal-like LiF."""
    return Crystals(
        [5, 2], [38, 22, 8, 8, 8, 3, 9], np.concatenate([PEROVSKITE, ROCK]), [3.9 * np.eye(3), np.diag([3.0, 3.0, 5.0])]
    )


def test_a_template_has_its_elements_exchanged_for_those_nearest_to_them() -> None:
    barium_zirconate = np.array([8, 8, 8, 40, 56])
    found = Templates(training()).structure(barium_zirconate, np.random.default_rng(0))
    assert not isinstance(found, str)
    frac_coords, lattice = found
    assert frac_coords[4].tolist() == [0, 0, 0]  # barium where strontium was
    assert frac_coords[3].tolist() == [0.5, 0.5, 0.5]
    assert lattice[0, 0] == 3.9


def test_a_composition_without_a_template_has_a_reason() -> None:
    found = Templates(training()).structure(np.array([8, 8, 22]), np.random.default_rng(0))
    assert found == "no training crystal has 1, 2 atoms of its elements"


def test_the_nearest_template_comes_more_often_than_the_others() -> None:
    salts = Crystals([2, 2], [11, 17, 3, 9], np.concatenate([ROCK, ROCK]), [4 * np.eye(3), 5 * np.eye(3)])
    rng, templates = np.random.default_rng(0), Templates(salts)
    edges = [templates.structure(np.array([17, 19]), rng)[1][0, 0] for _ in range(200)]  # type: ignore[index]
    assert 70 < edges.count(4.0) < 130  # half of them, and half the second


def test_a_crystal_of_the_same_composition_is_no_template_where_new_ones_are_wanted() -> None:
    salts = Crystals([2, 2], [17, 19, 3, 9], np.concatenate([ROCK, ROCK]), [4 * np.eye(3), 5 * np.eye(3)])
    rng, templates = np.random.default_rng(0), Templates(salts)
    edges = {templates.structure(np.array([19, 17]), rng, others_only=True)[1][0, 0] for _ in range(20)}  # type: ignore[index]
    assert edges == {5.0}
    alone = Templates(training()).structure(np.array([9, 3]), rng, others_only=True)
    assert alone == "no training crystal of another composition has 1, 1 atoms of its elements"


def test_elements_of_equal_counts_may_change_places_and_no_others() -> None:
    elements, counts = by_count(np.array([8, 8, 8, 22, 38]))
    assert elements.tolist() == [22, 38, 8]
    assert sorted(orders_of_equals(counts)) == [(0, 1, 2), (1, 0, 2)]


def test_a_random_structure_takes_a_cell_of_the_same_size_or_scales_one() -> None:
    random = RandomStructures(training())
    same = random.structure(np.array([8, 8, 8, 22, 38]), np.random.default_rng(0))
    other = random.structure(np.array([8] * 10), np.random.default_rng(0))
    assert abs(np.linalg.det(same[1])) == pytest.approx(3.9**3)  # type: ignore[arg-type]
    volume = abs(np.linalg.det(other[1]))  # type: ignore[arg-type]
    assert volume == pytest.approx(2 * 3.9**3) or volume == pytest.approx(5 * 45.0)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["random-structure", "nearest-template"])
def test_the_controls_keep_the_protocol(name: str) -> None:
    check_structure_predictor(name)
    check_generator(name)


def test_the_controls_run_on_a_data_set_of_ones_own(small_perov5: Path, tmp_path: Path) -> None:  # noqa: F811
    from bench.model_specs import parse_models
    from bench.prediction.compositions import PredictionPlan
    from bench.runner import Plan, run
    from bench.store import Run

    models = parse_models("random-structure,nearest-template")
    run(Plan(models, "perov5", workers=1, device="cpu", threads=1, prediction=PredictionPlan()), tmp_path / "r")
    assert set(Run.open(tmp_path / "r").summary()["models"]) == {"random-structure", "nearest-template"}
