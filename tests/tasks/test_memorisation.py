"""Memorisation: distances of compositions against scipy's earth mover's distance, the curve, continuous S.U.N."""

from __future__ import annotations

import functools
import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Composition, Element, Lattice, Structure
from scipy.stats import wasserstein_distance

from bench.crystals import Crystals
from bench.datasets import DataUnavailable
from tasks import memorisation
from tasks.element_movers import cumulated_shares, nearest
from tasks.memorisation import Memorisation, stability_scores

TASK = Memorisation("perov5")
ELMD_DISTANCES = Path(__file__).with_name("elmd_distances.json")  # written by elmd_distances.py
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


@functools.cache
def places_and_shares(formula: str) -> tuple[list[float], list[float]]:
    """By pymatgen."""
    items = list(Composition(formula).items())
    return [Element(element.symbol).mendeleev_no for element, _ in items], [amount for _, amount in items]


def elmd(one: str, two: str) -> float:
    """By scipy, on pymatgen's numbers."""
    (places, shares), (others, other_shares) = places_and_shares(one), places_and_shares(two)
    return float(wasserstein_distance(places, others, shares, other_shares))


def random_formulas(n: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    symbols = [Element.from_Z(z).symbol for z in range(1, 90)]
    return [
        "".join(f"{s}{generator.integers(1, 5)}" for s in generator.choice(symbols, generator.integers(1, 6), False))
        for _ in range(n)
    ]


def test_distances_are_those_of_its_library() -> None:
    for one, two, distance in json.loads(ELMD_DISTANCES.read_text()):
        (found,), _ = nearest(*(cumulated_shares(of_formulas([formula])) for formula in (one, two)))
        assert found == pytest.approx(distance, abs=5e-4), f"{one} {two}"


def test_all_figures_of_two_hundred_crystals_are_those_of_scipys_distances_pair_by_pair() -> None:
    formulas, generator = random_formulas(200, 0), np.random.default_rng(5)
    energies = generator.normal(0.1, 0.2, 200)
    table = TASK.score(of_formulas(formulas))
    metrics = TASK.summary({"memorisation": table, "stability": pa.table({"e_above_hull": energies})}, None, 0)  # type: ignore[arg-type]
    to_training = np.array([[elmd(one, two) for two in TRAINING] for one in formulas])
    np.testing.assert_allclose(table["training_distance"].to_numpy(), to_training.min(axis=1), atol=1e-9)
    np.testing.assert_array_equal(table["training_row"].to_numpy(), to_training.argmin(axis=1))
    pairs = np.zeros((200, 200))
    for one, two in itertools.combinations(range(200), 2):
        pairs[one, two] = pairs[two, one] = elmd(formulas[one], formulas[two])
    nearest_training = to_training.min(axis=1)
    novelty, stability = nearest_training / (1 + nearest_training), np.clip(1 - energies / 0.4289, 0, 1)
    for edge in (0, 1, 2, 4, 8, 16):
        assert metrics[f"within_{edge}_of_training"].value == (nearest_training <= edge).mean()
    assert metrics["training_distance_median"].value == pytest.approx(np.median(nearest_training))
    for name, score in (("novelty", novelty), ("uniqueness", 1.0), ("sun", stability * novelty)):
        every = np.ones(200, dtype=bool)
        without = [plain_mean(name, score * np.ones(200), pairs, every & (np.arange(200) != i)) for i in range(200)]
        reach = 1.96 * np.sqrt(199 / 200 * np.sum((np.array(without) - np.mean(without)) ** 2))
        found = metrics[f"continuous_{name}"]
        assert found.value == pytest.approx(plain_mean(name, score * np.ones(200), pairs, every))
        assert found.high - found.value == pytest.approx(reach, rel=0.01)


def plain_mean(name: str, score: np.ndarray, pairs: np.ndarray, chosen: np.ndarray) -> float:
    """Of the chosen crystals; but for novelty, times the mean of d / (1 + d) to the others of them."""
    between = pairs[np.ix_(chosen, chosen)]
    unique = (between / (1 + between)).sum(axis=1) / (chosen.sum() - 1)
    return float((score[chosen] * (1.0 if name == "novelty" else unique)).mean())


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
