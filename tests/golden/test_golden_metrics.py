"""Validity, properties and their distances equal the published evaluation code on recorded crystals."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import wasserstein_distance

from bench.crystals import Crystals
from bench.statistics import emd
from tasks.properties import Properties
from tasks.validity import Validity

FOLDER = os.environ.get("BENCH_GOLDEN_DIR")
pytestmark = pytest.mark.needs_golden

# The fixtures are of SMACT 2.5.5; the tables of SMACT 4 differ for a few elements: 398 of 400 were found to agree.
COMPOSITION_AGREEMENT = 0.985


@pytest.fixture(scope="module")
def golden():
    content = json.loads((Path(FOLDER) / "metrics.json").read_text(encoding="utf-8"))
    return content["crystals"], content["summary"]


@pytest.fixture(scope="module")
def crystals(golden):
    entries, _ = golden
    return Crystals(
        np.array([len(entry["numbers"]) for entry in entries]),
        np.concatenate([entry["numbers"] for entry in entries]),
        np.concatenate([entry["frac_coords"] for entry in entries]),
        np.array([entry["lattice"] for entry in entries]),
    )


@pytest.fixture(scope="module")
def validity(crystals):
    return Validity().score(crystals)


def published(golden, field):
    return [entry[field] for entry in golden[0]]


def test_structural_validity_is_the_published_one(golden, validity):
    assert validity["valid_structure"].to_pylist() == published(golden, "struct_valid")


def test_smallest_distances_are_the_published_ones(golden, validity):
    ours, theirs = validity["min_distance"].to_pylist(), published(golden, "min_distance")
    assert [d is None for d in ours] == [d is None for d in theirs]
    np.testing.assert_allclose(
        [d for d in ours if d is not None], [d for d in theirs if d is not None], rtol=1e-8, atol=1e-8
    )


def test_volumes_are_the_published_ones(golden, validity):
    np.testing.assert_allclose(
        validity["volume"].to_numpy(), published(golden, "volume"), rtol=1e-6
    )  # lattices are recorded to 1e-8 A


def test_densities_are_the_published_ones(golden, crystals):
    ours = Properties().score(crystals)["density"].to_numpy()
    np.testing.assert_allclose(ours, published(golden, "density"), rtol=1e-6)


def test_composition_validity_agrees_but_for_what_smact_has_changed_since(golden, validity):
    theirs = np.array(published(golden, "comp_valid"))
    assert (validity["valid_composition"].to_numpy() == theirs).mean() >= COMPOSITION_AGREEMENT


def test_a_crystal_is_valid_where_composition_and_structure_are(validity):
    both = validity["valid_composition"].to_numpy() & validity["valid_structure"].to_numpy()
    np.testing.assert_array_equal(validity["valid"].to_numpy(), both)


def test_every_invalid_crystal_has_a_reason(validity):
    for valid, reason in zip(validity["valid"].to_pylist(), validity["reason"].to_pylist(), strict=True):
        assert valid or reason


def test_distances_between_distributions_are_the_published_ones(golden, crystals):
    _, summary = golden
    valid = np.array(published(golden, "comp_valid")) & np.array(published(golden, "struct_valid"))
    real = np.array(published(golden, "tag")) == "real"
    table = Properties().score(crystals)
    for column, key in (("density", "wdist_density"), ("num_elements", "wdist_num_elems")):
        values = table[column].to_numpy()
        metric = emd(values[valid], values[real], seed=0)
        assert metric.value == pytest.approx(summary[key], rel=1e-6)
        assert metric.value == pytest.approx(wasserstein_distance(values[valid], values[real]), rel=1e-12)


def test_rates_of_the_summary_count_the_published_crystals(golden, validity):
    _, summary = golden
    metrics = Validity().summary({"validity": validity.append_column("index", pa.array(range(len(validity))))}, None, 0)
    assert metrics["valid_structure"].value == pytest.approx(summary["struct_valid"], abs=1e-12)
    assert metrics["valid_composition"].value == pytest.approx(summary["comp_valid"], abs=1 - COMPOSITION_AGREEMENT)
    assert metrics["valid"].value == pytest.approx(summary["valid"], abs=1 - COMPOSITION_AGREEMENT)
    assert {metric.n for metric in metrics.values()} == {summary["n"]}
