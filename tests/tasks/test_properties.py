"""The properties task: densities, elements, and their distances over valid crystals."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Lattice, Structure
from scipy.stats import wasserstein_distance

from bench.crystals import Crystals
from bench.statistics import Metric
from tasks.properties import Properties


def reference(seed=0):
    rng = np.random.default_rng(seed)
    return SimpleNamespace(
        **{
            split: SimpleNamespace(density=rng.gamma(4, 1.5, n), num_elements=rng.integers(2, 6, n))
            for split, n in (("train", 800), ("test", 300))
        }
    )


def tables(density, num_elements, valid):
    return {
        "properties": pa.table({"density": density, "num_elements": num_elements}),
        "validity": pa.table({"valid": valid}),
    }


def test_density_and_number_of_elements_equal_pymatgens():
    rng = np.random.default_rng(0)
    structures = [
        Structure(
            Lattice.from_parameters(*rng.uniform(3, 8, 3), *rng.uniform(70, 110, 3)),
            rng.integers(1, 119, n).tolist(),
            rng.random((n, 3)),
        )
        for n in (1, 2, 5, 20, 300)
    ]
    table = Properties().score(Crystals.from_structures(structures))
    np.testing.assert_allclose(table["density"].to_numpy(), [s.density for s in structures], rtol=1e-9)
    assert table["num_elements"].to_pylist() == [len(s.composition) for s in structures]
    assert table["reason"].null_count == 5


def test_the_schema_is_that_of_the_rows_with_an_index():
    task = Properties()
    assert ["index", *task.score(Crystals.empty()).schema.names] == task.schema.names
    assert json.loads(json.dumps(task.protocol(), allow_nan=False)) == task.protocol()


def test_distances_are_those_of_the_valid_crystals_to_the_test_split():
    card, rng = reference(), np.random.default_rng(1)
    density, elements, valid = rng.gamma(4, 1.5, 100) + 1, rng.integers(1, 6, 100), rng.random(100) < 0.8
    metrics = Properties().summary(tables(density, elements, valid), card, seed=0)
    assert metrics["emd_density"].value == pytest.approx(wasserstein_distance(density[valid], card.test.density))
    assert metrics["emd_num_elements"].value == pytest.approx(
        wasserstein_distance(elements[valid], card.test.num_elements)
    )
    assert metrics["median_density"].value == np.median(density[valid])
    assert {metric.n for metric in metrics.values()} == {valid.sum()}
    for metric in metrics.values():
        assert metric.low <= metric.value <= metric.high


def test_the_floor_is_that_of_as_many_training_crystals():
    metrics = Properties().summary(tables(np.ones(50), np.full(50, 3), np.ones(50, bool)), reference(), seed=0)
    card = reference()
    rng = np.random.default_rng(2)
    drawn = [wasserstein_distance(rng.choice(card.train.density, 50), card.test.density) for _ in range(400)]
    assert metrics["emd_density_floor"].value == pytest.approx(np.median(drawn), rel=0.1)
    assert metrics["emd_density_floor"].n == metrics["emd_num_elements_floor"].n == 50


def test_crystals_that_do_not_exist_take_no_part():
    metrics = Properties().summary(tables([1.0, None, 3.0], [2, None, 4], [True, False, True]), reference(), seed=0)
    assert metrics["median_density"].value == 2.0
    assert metrics["emd_num_elements"].n == 2


def test_without_valid_crystals_everything_is_undefined():
    found = tables([1.0, 2.0], [2, 3], [False, False])
    assert set(Properties().summary(found, reference(), seed=0).values()) == {Metric(None)}


def test_a_single_valid_crystal_has_distances_without_an_interval():
    metrics = Properties().summary(tables([5.0, 6.0], [3, 3], [True, False]), reference(), seed=0)
    assert metrics["emd_density"].value > 0
    assert metrics["emd_density"].low is None
    assert metrics["emd_density"].n == 1


def test_the_seed_decides_the_intervals():
    found = tables(np.arange(1.0, 31), np.tile([2, 3, 4], 10), np.ones(30, bool))
    first, again, other = (Properties().summary(found, reference(), seed) for seed in (0, 0, 1))
    assert first == again
    assert first["emd_density_floor"] != other["emd_density_floor"]
