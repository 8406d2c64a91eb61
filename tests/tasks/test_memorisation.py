"""Memorisation: distances of compositions against scipy's earth mover's distance, the curve, continuous S.U.N."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Composition, Element, Lattice, Structure
from scipy.stats import wasserstein_distance

from bench.crystals import Crystals
from bench.datasets import DataUnavailable
from tasks import memorisation
from tasks.element_movers import cumulated_shares, mean_difference, nearest
from tasks.memorisation import Memorisation, stability_scores

TASK = Memorisation("perov5")
TRAINING, TEST = ["NaCl", "KCl", "MgO", "SrTiO3"], ["RbCl", "MgO", "BaTiO3"]


def of_formulas(formulas: list[str]) -> Crystals:
    structures = []
    for formula in formulas:
        symbols = [element.symbol for element, n in Composition(formula).items() for _ in range(round(n))]
        places = np.linspace(0, 0.9, len(symbols))
        structures.append(Structure(Lattice.cubic(9), symbols, np.stack([places] * 3, axis=1)))
    return Crystals.from_structures(structures)


@pytest.fixture(autouse=True)
def splits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = {"train": TRAINING, "test": TEST}
    monkeypatch.setattr(memorisation, "load_split", lambda dataset, split, **_: of_formulas(known[split]))
    monkeypatch.setattr(memorisation, "split_hash", lambda dataset, split: split)
    for cached in (memorisation._compositions, memorisation._test_distances):
        cached.cache_clear()
    yield
    for cached in (memorisation._compositions, memorisation._test_distances):
        cached.cache_clear()


def elmd(one: str, two: str) -> float:
    """By scipy, on pymatgen's numbers."""
    places, shares = [], []
    for formula in (one, two):
        items = list(Composition(formula).items())
        places.append([Element(element.symbol).mendeleev_no for element, _ in items])
        shares.append([amount for _, amount in items])
    return float(wasserstein_distance(*places, *shares))


def random_formulas(n: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    symbols = [Element.from_Z(z).symbol for z in range(1, 90)]
    return [
        "".join(f"{s}{generator.integers(1, 5)}" for s in generator.choice(symbols, generator.integers(1, 6), False))
        for _ in range(n)
    ]


def test_distances_are_scipys_earth_movers_distance() -> None:
    sample, others = random_formulas(200, 0), random_formulas(40, 1)
    found, rows = nearest(cumulated_shares(of_formulas(sample)), cumulated_shares(of_formulas(others)))
    plain = np.array([[elmd(one, two) for two in others] for one in sample])
    np.testing.assert_allclose(found, plain.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(plain[np.arange(200), rows], found, atol=1e-9)


def test_the_difference_to_the_others_is_the_mean_over_pairs() -> None:
    formulas = random_formulas(12, 2)
    plain = np.array([[elmd(one, two) for two in formulas] for one in formulas])
    expected = (plain / (1 + plain)).sum(axis=1) / 11
    np.testing.assert_allclose(mean_difference(cumulated_shares(of_formulas(formulas))), expected, atol=1e-9)


def test_the_curve_begins_at_known_formulas_and_stands_beside_that_of_the_test_split() -> None:
    table = TASK.score(of_formulas(["Na2Cl2", "RbCl", "CeO2"]))
    assert table["training_distance"].to_pylist() == pytest.approx([0, elmd("RbCl", "KCl"), elmd("CeO2", "SrTiO3")])
    assert table["training_row"].to_pylist() == [0, 1, 3]
    metrics = TASK.summary({"memorisation": with_missing(table)}, None, 0)  # type: ignore[arg-type]
    assert metrics["within_0_of_training"].value == pytest.approx(1 / 4)
    assert metrics["within_16_of_training"].value == pytest.approx(3 / 4)
    assert metrics["within_0_of_training_test"].value == pytest.approx(1 / 3)
    assert metrics["continuous_sun"].value is None


def with_missing(table: pa.Table) -> pa.Table:
    """The table with one row more, of a crystal that does not exist."""
    missing = pa.table({name: pa.array([None], table.schema.field(name).type) for name in table.column_names})
    return pa.concat_tables([table, missing])


def test_continuous_sun_multiplies_three_scores_and_what_does_not_exist_has_none() -> None:
    formulas = ["RbCl", "CeO2", "NaCl"]
    table = with_missing(TASK.score(of_formulas(formulas)))
    energies = pa.table({"e_above_hull": pa.array([-0.1, 0.1, 0.0, None])})
    value = TASK.summary({"memorisation": table, "stability": energies}, None, 0)["continuous_sun"].value  # type: ignore[arg-type]
    normal = [d / (1 + d) for d in table["training_distance"].to_pylist()[:3]]
    pairs = np.array([[elmd(one, two) for two in formulas] for one in formulas])
    unique = (pairs / (1 + pairs)).sum(axis=1) / 2
    assert value == pytest.approx((normal[0] * unique[0] + (1 - 0.1 / 0.4289) * normal[1] * unique[1]) / 4)
    np.testing.assert_allclose(stability_scores(np.array([-1.0, 0.0, 0.21445, 1.0, np.inf])), [1, 1, 0.5, 0, 0])


def test_elements_without_a_place_have_a_reason_and_cost_no_other_crystal() -> None:
    heavy = Structure(Lattice.cubic(9), ["Og", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    table = TASK.score(Crystals.concatenate([Crystals.from_structures([heavy]), of_formulas(["NaCl"])]))
    assert table["training_distance"].to_pylist() == [None, 0.0]
    assert "no place" in table["reason"][0].as_py()
    assert TASK.score(Crystals.empty()).num_rows == 0


def test_without_the_training_split_the_task_says_so_before_anything_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dataset: str, split: str) -> str:
        raise DataUnavailable("not at hand")

    monkeypatch.setattr(memorisation, "split_hash", refuse)
    with pytest.raises(DataUnavailable):
        TASK.protocol()
    assert pickle.loads(pickle.dumps(TASK)) == TASK
