"""The coverage task: fingerprints equal to matminer's, and coverage as the published code computes it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.distance import cdist, pdist
from scipy.stats import wasserstein_distance

from bench.crystals import Crystals, FilteredCrystals
from bench.datasets import DataUnavailable
from bench.parquet import read_table
from bench.scoring.tables import score_in_memory
from tasks.coverage import split_fingerprints as splits
from tasks.coverage.composition_fingerprint import composition_fingerprints, composition_statistics, magpie
from tasks.coverage.diversity import mean_pair_distance, vendi_score
from tasks.coverage.nearest import Nearest, recall_without
from tasks.coverage.split_fingerprints import SplitFingerprints, fingerprint_table
from tasks.coverage.structure_fingerprint import (
    NUM_FEATURES,
    NoFingerprint,
    coordination_numbers,
    structure_fingerprint,
)
from tasks.coverage.task import Coverage
from tests.stored_samples import two_hundred_crystals
from tests.tasks.matminer_fingerprints import FILE, OF_SAMPLES, TEST_CRYSTALS, structures

STORED = json.loads(FILE.read_text())
ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def counts_of(structure: Structure) -> np.ndarray:
    return np.bincount(structure.atomic_numbers, minlength=119)[None]


@pytest.mark.parametrize("place", range(len(STORED)))
def test_fingerprints_are_matminers(place):
    structure, stored = structures()[place], STORED[place]
    expected = np.zeros(NUM_FEATURES)
    for feature, value in stored["structure"].items():
        expected[int(feature)] = value
    found = structure_fingerprint(Crystals.from_structures([structure]), 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    composition = np.array(stored["composition"], dtype=float)
    np.testing.assert_allclose(composition_statistics(counts_of(structure))[0], composition, rtol=1e-8, atol=1e-8)


def matminers(of: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 61) structure fingerprints and (n, 132) composition statistics that are stored of some crystals."""
    table = read_table(OF_SAMPLES)
    table = table.filter(pc.equal(table["of"], of))
    structure, composition = (np.array(table[name].to_pylist(), dtype=float) for name in ("structure", "composition"))
    return structure, composition


@pytest.mark.parametrize("dataset", ["perov5", "mp20"])
def test_the_shipped_fingerprints_of_test_crystals_are_matminers(dataset):
    shipped = splits.split_fingerprints(dataset)
    structure, composition = matminers(dataset)
    np.testing.assert_allclose(shipped.structure[:TEST_CRYSTALS], structure, atol=1e-3)  # motifs jump at exact angles
    np.testing.assert_allclose(shipped.composition[:TEST_CRYSTALS], scaled(composition), atol=1e-4)


def scaled(statistics: np.ndarray) -> np.ndarray:
    return np.nan_to_num((statistics - magpie().means) / magpie().stds)


@pytest.mark.slow
def test_coverage_of_two_hundred_stored_crystals_is_that_of_matminers_fingerprints():
    crystals = FilteredCrystals.complete(two_hundred_crystals())
    task = Coverage("mp20")
    table = score_in_memory([task], crystals)["coverage"]
    structure, composition = matminers("samples")
    np.testing.assert_allclose(np.array(table["structure_fingerprint"].to_pylist()), structure, atol=1e-6)
    split = splits.split_fingerprints("mp20")
    of_structure, of_composition = cdist(structure, split.structure), cdist(scaled(composition), split.composition)
    np.testing.assert_allclose(table["structure_distance"].to_numpy(), of_structure.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(table["composition_distance"].to_numpy(), of_composition.min(axis=1), atol=1e-4)
    near = (of_structure <= 0.4, of_composition <= 10)
    expected = {
        "cov_recall": (near[0].any(axis=0) & near[1].any(axis=0)).sum() / 9046,  # with those without a fingerprint
        "cov_precision": (near[0].any(axis=1) & near[1].any(axis=1)).mean(),
        "amsd_recall": of_structure.min(axis=0).mean(),
        "amsd_precision": of_structure.min(axis=1).mean(),
        "amcd_recall": of_composition.min(axis=0).mean(),
        "amcd_precision": of_composition.min(axis=1).mean(),
        "structure_diversity": pdist(structure).mean(),
        "composition_diversity": pdist(scaled(composition)).mean(),
    }
    metrics = task.summary({"coverage": table, "validity": pa.table({"valid": [True] * 200})}, None, seed=0)
    assert {name: metrics[name].value for name in expected} == pytest.approx(expected, abs=1e-4)
    numbers = [coordination_numbers(fingerprints) for fingerprints in (structure, split.structure)]
    assert metrics["emd_coordination_number"].value == pytest.approx(wasserstein_distance(*numbers), abs=1e-5)


def test_what_magpie_does_not_know_counts_as_the_mean():
    structure = Structure(Lattice.cubic(5.0), ["Xe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    unknown = np.isnan(composition_statistics(counts_of(structure))[0])
    scaled = composition_fingerprints(counts_of(structure))[0]
    assert unknown.any() == (scaled[unknown] == 0).any() and np.isfinite(scaled).all()
    assert (magpie().stds > 0).all() and len(scaled) == 132


def test_sodium_chloride_has_six_neighbours():
    fingerprint = structure_fingerprint(Crystals.from_structures([ROCK_SALT]), 0)
    assert coordination_numbers(fingerprint) == pytest.approx(6, abs=1e-3)


def test_a_cell_that_would_take_minutes_has_no_fingerprint_and_a_reason():
    crystals = Crystals.from_structures([Structure(Lattice.cubic(0.3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])])
    with pytest.raises(NoFingerprint, match="too dense or too long: .* atoms within 7 A"):
        structure_fingerprint(crystals, 0)
    table = Coverage("perov5").score(crystals)
    assert table["reason"][0].as_py().startswith("no fingerprint: ")
    assert table["structure_fingerprint"].null_count == table["coordination_number"].null_count == 1


def random_fingerprints(n: int, seed: int) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    formulas = [f"{rng.choice(['Na', 'K', 'Ba'])}{rng.integers(1, 4)}{rng.choice(['O', 'S'])}" for _ in range(n)]
    return np.round(rng.random((n, NUM_FEATURES)) * 0.2, 6).astype(np.float32), formulas


@pytest.fixture
def scored(monkeypatch):
    """The tables of 60 crystals, of which 5 have no fingerprint, the split, and all compositions."""
    from pymatgen.core import Composition

    def compositions(formulas):
        counts = np.zeros((len(formulas), 119), dtype=int)
        for row, formula in zip(counts, formulas, strict=True):
            for element, amount in Composition(formula).items():
                row[element.Z] = amount
        return composition_fingerprints(counts)

    (own, formulas), (other, others) = random_fingerprints(60, 0), random_fingerprints(40, 1)
    split = SplitFingerprints(other.astype(float), compositions(others), 40)
    monkeypatch.setattr("tasks.coverage.task.split_fingerprints", lambda dataset: split)
    monkeypatch.setattr(Coverage, "cutoffs", (0.53, 3.0))
    task = Coverage("perov5")
    columns = {name: [None] * 60 for name in task.schema.names}
    columns |= {"index": list(range(60)), "formula": formulas, "coordination_number": [4.0] * 60}
    columns["structure_fingerprint"] = [None if row < 5 else own[row] for row in range(60)]
    table = task.finish(pa.table([pa.array(columns[f.name], f.type) for f in task.schema], schema=task.schema))
    valid = np.arange(60) % 2 == 0
    return {"coverage": table, "validity": pa.table({"valid": valid})}, split, own[5:], compositions(formulas[5:])


def test_coverage_is_that_of_the_whole_matrices_of_distances(scored):
    tables, split, structure, composition = scored
    metrics = Coverage("perov5").summary(tables, None, seed=0)
    of_structure, of_composition = cdist(structure, split.structure), cdist(composition, split.composition)
    recall = ((of_structure.min(axis=0) <= 0.53) & (of_composition.min(axis=0) <= 3)).mean()
    precision = ((of_structure.min(axis=1) <= 0.53) & (of_composition.min(axis=1) <= 3)).sum() / 60
    assert 0 < recall < 1 and 0 < precision < 1
    expected = {
        "cov_recall": recall,
        "cov_precision": precision,
        "amsd_recall": of_structure.min(axis=0).mean(),
        "amsd_precision": of_structure.min(axis=1).mean(),
        "amcd_recall": of_composition.min(axis=0).mean(),
        "amcd_precision": of_composition.min(axis=1).mean(),
        "structure_diversity": pdist(structure[1::2]).mean(),
        "composition_diversity": pdist(composition[1::2]).mean(),
    }
    assert {name: metrics[name].value for name in expected} == pytest.approx(expected)
    assert all(metrics[name].has_interval for name in expected)


def test_a_crystal_without_a_fingerprint_is_not_covered(scored):
    table = scored[0]["coverage"]
    assert table["covered"].to_pylist()[:5] == [False] * 5 and table["covered"].null_count == 0
    assert table["structure_distance"].null_count == table["composition_distance"].null_count == 5


def test_a_sample_without_any_fingerprint_covers_nothing(scored):
    tables = {name: table.slice(0, 5) for name, table in scored[0].items()}
    metrics = Coverage("perov5").summary(tables, None, seed=0)
    assert metrics["cov_recall"].value == metrics["cov_precision"].value == 0
    assert metrics["amsd_recall"].value is None


def test_the_figures_without_each_crystal_are_those_of_computing_anew():
    rng = np.random.default_rng(2)
    own, split = rng.random((2, 15, 4)), rng.random((2, 30, 4))
    structure, composition = (Nearest.between(*pair) for pair in zip(own, split, strict=True))
    recall = recall_without(structure, composition, (0.35, 0.4))
    means = structure.means_without()
    for left_out in range(15):
        rest = np.delete(own, left_out, axis=1)
        matrices = [cdist(*pair).min(axis=0) for pair in zip(rest, split, strict=True)]
        assert recall[left_out] == pytest.approx(((matrices[0] <= 0.35) & (matrices[1] <= 0.4)).mean())
        assert means[left_out] == pytest.approx(matrices[0].mean())


@pytest.mark.parametrize("n", [30, 200])
def test_the_interval_of_recall_holds_the_mean_over_samples_of_that_size(n):
    from bench.statistics import jackknife

    rng = np.random.default_rng(3)
    split = rng.random((150, 2)), rng.random((150, 2))
    found = []
    for _ in range(150):
        one, other = (Nearest.between(np.sqrt(rng.random((n, 2))), part) for part in split)
        covered = ((one.of_split <= 0.05) & (other.of_split <= 0.2)).mean()
        found.append(jackknife(covered, recall_without(one, other, (0.05, 0.2)), most=1.0))
    expected = np.mean([metric.value for metric in found])
    assert np.mean([metric.low <= expected <= metric.high for metric in found]) >= 0.9


def test_the_vendi_score_is_the_entropy_of_the_whole_matrix_of_similarities():
    structure, _ = matminers("samples")
    units = structure / np.linalg.norm(structure, axis=1, keepdims=True)

    def plain(chosen):
        shares = np.linalg.eigvalsh(chosen @ chosen.T / len(chosen))
        return np.exp(-sum(share * np.log(share) for share in shares if share > 1e-12))

    metric = vendi_score(structure)
    assert metric.value == pytest.approx(plain(units), rel=1e-9) and 2 < metric.value < 61
    without = np.array([plain(np.delete(units, left_out, axis=0)) for left_out in range(200)])
    reach = 1.96 * np.sqrt(199 / 200 * ((without - without.mean()) ** 2).sum())
    assert metric.high - metric.value == pytest.approx(reach, rel=0.1)
    assert vendi_score(np.eye(7)).value == pytest.approx(7) and vendi_score(np.ones((5, 3))).value == pytest.approx(1)
    assert vendi_score(np.zeros((0, 3))).value is None and vendi_score(np.ones((1, 3))).low is None


def test_pairs_give_no_diversity_below_two():
    assert mean_pair_distance(np.ones((1, 3))).value is None
    assert mean_pair_distance(np.array([[0.0], [3.0]])).value == 3


def test_fingerprints_of_the_split_are_computed_once_and_kept(tmp_path, monkeypatch):
    crystals = Crystals.from_structures([ROCK_SALT.get_primitive_structure(), structures()[1]])
    asked = []

    def load(*_, **__):
        asked.append(1)
        return crystals

    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(splits, "split_hash", lambda dataset, split: "abc")
    monkeypatch.setattr(splits, "load_split", load)
    monkeypatch.setattr(splits, "fingerprint_table", lambda c: fingerprint_table(c, workers=1))
    with pytest.warns(UserWarning, match="of 2 test crystals are computed once, about 1 minutes"):
        splits.write_split_fingerprints("perov5", tmp_path / "out")
    splits.write_split_fingerprints("perov5", tmp_path / "out")
    assert asked == [1]
    monkeypatch.setattr(splits, "reference_folder", lambda dataset: tmp_path / "out")
    found = splits.split_fingerprints.__wrapped__("perov5")
    np.testing.assert_allclose(found.structure[1], structure_fingerprint(crystals, 1), atol=1e-6)
    assert found.crystals == 2 and found.composition.shape == (2, 132)


def test_without_the_test_split_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "reference_folder", lambda dataset: tmp_path)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    with pytest.raises(DataUnavailable, match="Perov-5 test: the crystals are not at hand; get them with"):
        Coverage("perov5").protocol()


def test_coverage_runs_only_where_it_is_named():
    from bench.registry import task_names

    assert "coverage" not in task_names(None) and "symmetry" in task_names(None)
    assert task_names(["coverage"]) == ["validity", "coverage"]


def test_rows_of_a_sample_with_lost_crystals_go_through_the_harness(monkeypatch):
    crystals = Crystals.from_structures([ROCK_SALT.get_primitive_structure(), structures()[1]])
    rows = fingerprint_table(crystals, workers=1)
    monkeypatch.setattr("tasks.coverage.task.split_fingerprints", lambda dataset: SplitFingerprints.of_table(rows))
    filtered = FilteredCrystals(crystals, np.array([0, 2]), {1: "no CIF"})
    table = score_in_memory([Coverage("perov5")], filtered)["coverage"]
    assert table["covered"].to_pylist() == [True, False, True]
    assert table["reason"].to_pylist() == [None, "no CIF", None]
    validity = pa.table({"valid": [True, False, True]})
    metrics = Coverage("perov5").summary({"coverage": table, "validity": validity}, None, seed=0)
    assert metrics["cov_recall"].value == 1 and metrics["cov_precision"].value == pytest.approx(2 / 3)
    assert metrics["amsd_precision"].value == pytest.approx(0, abs=1e-5)
