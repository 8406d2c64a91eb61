"""Controls: what each leaves of the training crystals, and that they are functions of the seed."""

import random
from collections import Counter

import numpy as np
import pytest
from pymatgen.core import Element

from bench.crystals import Crystals
from bench.datasets import DataUnavailable
from bench.interfaces import Generator
from models.baselines import controls
from models.baselines.controls import IndependentElements, IonExchange, ShuffledSites, TrainCopy, exchange_partners

CONTROLS = [TrainCopy, IndependentElements, ShuffledSites, IonExchange]
ELEMENTS = np.array([38, 56, 22, 40, 8, 16, 57, 9])


def training_crystals(sizes: list[int]) -> Crystals:
    rng = np.random.default_rng(1)
    total = sum(sizes)
    lattices = np.eye(3) * (4 + rng.random((len(sizes), 1, 1)))
    return Crystals(np.array(sizes), rng.choice(ELEMENTS, total), rng.random((total, 3)), lattices)


TRAIN = training_crystals([5] * 40 + [3] * 20 + [1])


@pytest.fixture(autouse=True)
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "load_split", lambda *_, **__: TRAIN)


def sampled(factory, num_crystals: int = 50, seed: int = 3) -> Crystals:
    generator = factory(dataset="perov_5")
    generator.load(device="cpu")
    return generator.sample(num_crystals=num_crystals, seed=seed).crystals


def geometry(crystals: Crystals, index: int) -> bytes:
    _, coords, lattice = crystals.arrays(index)
    return coords.tobytes() + lattice.tobytes()


GEOMETRIES = {geometry(TRAIN, index): index for index in range(len(TRAIN))}


@pytest.mark.parametrize("factory", CONTROLS)
def test_a_control_is_a_generator_without_network_or_steps(factory) -> None:
    generator = factory(dataset="perov5", preset="cpu", steps=None)
    generator.load("cpu")
    batch = generator.sample(num_crystals=7, seed=0)
    assert isinstance(generator, Generator)
    assert batch.steps is None
    assert batch.network_evaluations.tolist() == [0] * 7
    assert len(batch.crystals) == 7


@pytest.mark.parametrize("factory", CONTROLS)
def test_the_same_seed_gives_the_same_batch_and_leaves_global_randomness_alone(factory) -> None:
    np.random.seed(0)  # noqa: NPY002 - the global state is what is looked at
    random.seed(0)
    before = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    first, second, other = sampled(factory), sampled(factory), sampled(factory, seed=4)
    assert first == second
    assert first != other
    assert (np.random.get_state()[1].tobytes(), random.getstate()) == before  # noqa: NPY002


@pytest.mark.parametrize("factory", CONTROLS)
def test_every_geometry_is_a_training_crystals_none_twice_while_there_are_enough(factory) -> None:
    crystals = sampled(factory, len(TRAIN))
    found = [GEOMETRIES[geometry(crystals, index)] for index in range(len(crystals))]
    assert sorted(found) == list(range(len(TRAIN)))


@pytest.mark.parametrize("factory", CONTROLS)
def test_more_than_there_are_repeat_evenly_and_none_is_none(factory) -> None:
    crystals = sampled(factory, 2 * len(TRAIN) + 5)
    counts = Counter(GEOMETRIES[geometry(crystals, index)] for index in range(len(crystals)))
    assert sorted(counts.values()) == [2] * (len(TRAIN) - 5) + [3] * 5
    assert len(sampled(factory, 0)) == 0


def test_a_copy_is_a_training_crystal_atom_by_atom() -> None:
    crystals = sampled(TrainCopy)
    for index in range(len(crystals)):
        assert crystals[index] == TRAIN[GEOMETRIES[geometry(crystals, index)]]


def test_independent_elements_come_at_the_training_frequencies() -> None:
    drawn = sampled(IndependentElements, 20_000).atomic_numbers
    shares = np.bincount(drawn, minlength=60) / len(drawn)
    expected = np.bincount(TRAIN.atomic_numbers, minlength=60) / len(TRAIN.atomic_numbers)
    assert np.abs(shares - expected).max() < 5 * np.sqrt(0.25 / len(drawn))


def test_shuffled_sites_keep_each_composition_and_move_it_to_other_sites() -> None:
    crystals = sampled(ShuffledSites, len(TRAIN))

    def sequences(batch: Crystals) -> list[list[int]]:
        return [batch.arrays(index)[0].tolist() for index in range(len(batch))]

    assert sorted(sequences(crystals)) == sorted(sequences(TRAIN))
    moved = [
        crystals.arrays(index)[0].tolist() != TRAIN.arrays(GEOMETRIES[geometry(crystals, index)])[0].tolist()
        for index in range(len(crystals))
    ]
    assert np.mean(moved) > 0.8


def test_ion_exchange_replaces_one_element_by_an_absent_one_of_its_column() -> None:
    crystals = sampled(IonExchange, len(TRAIN))
    exchanged = 0
    for index in range(len(crystals)):
        new, old = crystals.arrays(index)[0], TRAIN.arrays(GEOMETRIES[geometry(crystals, index)])[0]
        pairs = {(int(a), int(b)) for a, b in zip(old, new, strict=True) if a != b}
        if not pairs:
            continue
        ((before, after),) = pairs
        assert Element.from_Z(before).group == Element.from_Z(after).group
        assert after not in old
        assert before not in new
        exchanged += 1
    assert exchanged > 50


def test_a_crystal_without_a_partner_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = Crystals([2], [8, 22], np.zeros((2, 3)), 4 * np.eye(3))
    monkeypatch.setattr(controls, "load_split", lambda *_, **__: lonely)
    assert sampled(IonExchange, 1) == lonely


def test_partners_share_a_column_but_an_anion_has_no_cation_for_a_partner() -> None:
    partners = exchange_partners(np.array([7, 83, 33, 15, 21, 39, 57, 58, 92, 90, 3, 1]))
    assert partners[7].tolist() == [15]
    assert partners[83].tolist() == [33]
    assert partners[58].tolist() == [57]
    assert partners[92].tolist() == [90]
    assert partners[21].tolist() == [39]
    assert partners[3].tolist() == partners[1].tolist() == []


def test_without_training_crystals_loading_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, download: bool) -> Crystals:
        assert not download
        raise DataUnavailable("not at hand")

    monkeypatch.setattr(controls, "load_split", absent)
    with pytest.raises(DataUnavailable):
        TrainCopy(dataset="perov5").load("cpu")


def test_steps_are_refused_and_an_unknown_data_set_too() -> None:
    with pytest.raises(ValueError, match="train-copy has no steps to choose; leave out @5"):
        TrainCopy(dataset="perov5", steps=5)
    with pytest.raises(ValueError, match="known are perov5, mp20"):
        TrainCopy(dataset="perov")
