"""The distribution task: reduced cells, scarcity, and distances to the counts of the test split."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.analysis.hhi import HHIModel
from pymatgen.core import Lattice, Structure
from scipy.spatial.distance import jensenshannon

from bench.crystals import Crystals
from bench.datasets import CrystalCounts
from tasks import distribution
from tasks.distribution import QUANTITIES, Distribution, categories, categories_of_split
from tests.stored_samples import two_hundred_crystals


def structures(n: int, seed: int) -> list[Structure]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        cell = Lattice.from_parameters(*rng.uniform(3, 7, 3), *rng.uniform(75, 105, 3))
        count = rng.integers(1, 6)
        found.append(Structure(cell, rng.choice(["Na", "Ti", "O", "Cs", "Nd"], count), rng.random((count, 3))))
    return found


def tables(crystals: Crystals, valid: np.ndarray) -> dict[str, pa.Table]:
    return {"distribution": Distribution("perov5").score(crystals), "validity": pa.table({"valid": valid})}


def test_rows_of_two_hundred_stored_crystals_are_pymatgens():
    made = two_hundred_crystals()
    table, scarcity = Distribution("mp20").score(made), HHIModel()
    for row, structure in zip(table.to_pylist(), made, strict=True):
        reduced = structure.lattice.get_niggli_reduced_lattice()
        assert [row[n] for n in ("a", "b", "c")] == pytest.approx(reduced.abc, abs=2e-3)
        cosines = np.cos(np.radians([[row[n] for n in ("alpha", "beta", "gamma")], reduced.angles]))
        own, theirs = np.sort(np.abs(cosines))  # sorted, as nearly equal lengths may change places
        assert own == pytest.approx(theirs, abs=2e-3)
        # A Niggli cell is all acute or all not; near 90 degrees pymatgen's may be mixed, with two vectors turned round.
        assert (cosines[0] > -1e-6).all() or (cosines[0] < 1e-6).all()
        assert row["num_atoms"] == len(structure)
        assert row["volume_per_atom"] == pytest.approx(structure.volume / len(structure))
        theirs = scarcity.get_hhi(structure.composition)
        assert (row["hhi_production"], row["hhi_reserve"]) == (pytest.approx(theirs) if theirs[0] else theirs)


def test_figures_of_two_hundred_stored_crystals_are_scipys_beside_the_test_split(monkeypatch):
    crystals, split = two_hundred_crystals(), Crystals.from_structures(structures(80, 2))
    reduced = Crystals.from_structures([s.get_reduced_structure() for s in split])
    monkeypatch.setattr(distribution, "_split", lambda dataset: CrystalCounts.of(reduced))
    valid = np.arange(200) % 3 > 0
    own = tables(crystals, valid)
    metrics = Distribution("perov5").summary(own, None, seed=0)
    kept = crystals[np.flatnonzero(valid)]
    elements = [np.bincount(c.atomic_numbers, minlength=119) for c in (kept, split)]
    assert metrics["js_elements"].value == pytest.approx(jensenshannon(*elements, base=2))
    volumes = [c.volumes / c.num_atoms for c in (kept, split)]
    histograms = [np.histogram(v, [*range(0, 101, 2), np.inf])[0] for v in volumes]
    assert metrics["js_volume_per_atom"].value == pytest.approx(jensenshannon(*histograms, base=2))
    rows = own["distribution"].filter(pa.array(valid))
    theirs = [(s.lattice.abc, s.lattice.angles) for s in reduced]
    for place, (name, columns, edges) in enumerate(
        (("length", "abc", np.arange(0, 40.1, 0.5)), ("angle", ("alpha", "beta", "gamma"), np.arange(-0.5, 185, 5)))
    ):
        values = [np.concatenate([rows[c].to_numpy() for c in columns]), np.ravel([t[place] for t in theirs])]
        histograms = [np.histogram(v, edges)[0] for v in values]
        assert metrics[f"js_{name}"].value == pytest.approx(jensenshannon(*histograms, base=2))
    for name in ("hhi_production", "hhi_reserve"):
        assert metrics[f"{name}_median"].value == np.median(rows[name].drop_null().to_numpy())
    assert all(metrics[f"js_{name}"].has_interval and metrics[f"js_{name}"].n == valid.sum() for name in QUANTITIES)


def test_values_outside_all_bins_are_a_category_of_their_own():
    found = categories("volume_per_atom", np.array([[0.0], [1.99], [2.0], [100.0], [100.1], [1e6]]), 8)
    assert found.ravel().tolist() == [0, 0, 1, 49, 50, 50]


@pytest.mark.parametrize("dataset", ["perov5", "mp20"])
def test_the_shipped_counts_of_a_test_split_stay_whole(dataset):
    split = distribution._split(dataset)
    for name, (columns, merged) in QUANTITIES.items():
        assert categories_of_split(split, name, merged).sum() == split.crystals * len(columns)


def test_without_counts_of_the_test_split_there_is_scarcity_and_no_distance(monkeypatch):
    monkeypatch.setattr(distribution, "_split", lambda dataset: None)
    crystals = Crystals.from_structures(structures(5, 3))
    metrics = Distribution("perov5").summary(tables(crystals, np.ones(5, dtype=bool)), None, seed=0)
    assert metrics["js_elements"].value is None and metrics["hhi_production_median"].value > 0


def test_a_sample_without_valid_crystals_has_no_figures():
    crystals = Crystals.from_structures(structures(3, 4))
    metrics = Distribution("perov5").summary(tables(crystals, np.zeros(3, dtype=bool)), None, seed=0)
    assert all(metric.value is None for metric in metrics.values())


def test_the_schema_is_that_of_the_rows_with_an_index_and_the_protocol_is_json():
    task = Distribution("mp20")
    assert ["index", *task.score(Crystals.empty()).schema.names] == task.schema.names
    protocol = json.loads(json.dumps(task.protocol(), allow_nan=False))
    assert protocol["reference"] and protocol["distance"].startswith("jensen-shannon")
