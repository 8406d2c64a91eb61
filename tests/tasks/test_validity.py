"""The validity task: rules, reasons, rates, and hostile crystals."""

import json
import pickle
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from bench.crystals import Crystals
from tasks.validity import COLLAPSED, Validity


def crystal(numbers, frac_coords, lattice):
    return Crystals([len(numbers)], numbers, np.asarray(frac_coords, dtype=float), np.asarray(lattice, dtype=float))


def row(*args):
    return Validity().score(crystal(*args)).to_pylist()[0]


ROCK_SALT = ([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 3.5)


def test_a_table_has_the_columns_of_the_store_in_their_types():
    task = Validity()
    table = task.score(crystal(*ROCK_SALT))
    assert table.schema.names == [
        "formula",
        "valid_composition",
        "valid_composition_icsd24",
        "valid_structure",
        "valid",
        "min_distance",
        "volume",
        "reason",
    ]
    assert task.schema.names == ["index", *table.schema.names]
    assert [task.schema.field(name).type for name in table.schema.names] == table.schema.types
    assert task.score(Crystals.empty()).schema == table.schema


def test_a_valid_crystal_has_no_reason():
    assert row(*ROCK_SALT) == {
        "formula": "NaCl",
        "valid_composition": True,
        "valid_composition_icsd24": True,
        "valid_structure": True,
        "valid": True,
        "min_distance": pytest.approx(3.5 * 0.75**0.5),
        "volume": pytest.approx(3.5**3),
        "reason": None,
    }


def test_atoms_must_be_more_than_half_an_angstrom_apart_over_periodic_images():
    def at(distance):
        return row([11, 17], [[0, 0, 0], [1 - distance / 4, 0, 0]], np.eye(3) * 4)

    assert at(0.51)["valid_structure"]
    assert not at(0.49)["valid_structure"]
    assert at(0.49)["min_distance"] == pytest.approx(0.49)
    assert at(0.49)["reason"] == "structure: atoms 0.490 A apart"


def test_a_cell_needs_a_tenth_of_a_cubic_angstrom():
    flat = np.diag([10, 10, 0.0009])
    assert row([11, 17], [[0, 0, 0], [0.5, 0.5, 0]], flat)["reason"] == "structure: volume 0.09 A^3"
    assert row([11, 17], [[0, 0, 0], [0.5, 0.5, 0]], np.diag([10, 10, 0.0011]))["valid_structure"]


def test_a_single_atom_is_valid_without_a_distance():
    alone = row([26], [[0.3, 0.3, 0.3]], np.eye(3) * 2.5)
    assert alone["valid"]
    assert alone["min_distance"] is None
    assert alone["reason"] is None


def test_a_cell_collapsed_onto_an_atoms_own_images_stays_valid_with_a_note():
    collapsed = row([26], [[0, 0, 0]], np.diag([0.4, 5, 5]))
    assert collapsed["valid"]
    assert collapsed["reason"] == f"{COLLAPSED}: 0.400 A"


def test_an_invalid_crystal_names_all_its_faults():
    faulty = row([11, 17, 17], [[0, 0, 0], [0, 0, 0], [0.5, 0, 0]], np.eye(3) * 0.4)
    assert not faulty["valid_composition"]
    assert faulty["reason"] == (
        "composition: no charge-neutral oxidation states with cations less electronegative than anions; "
        "structure: atoms 0.000 A apart; structure: volume 0.064 A^3"
    )


def test_a_cell_beyond_double_precision_is_invalid_with_a_reason():
    extreme = row([11, 17], [[0, 0, 0], [0.5, 0, 0]], np.diag([1e200, 1e-100, 1e-100]))
    assert not extreme["valid_structure"]
    assert extreme["min_distance"] is None
    assert extreme["reason"] == "structure: too skewed to measure distances"


def test_both_sets_of_oxidation_states_are_reported():
    strontium_oxides = [
        row([38] * n + [8] * m, np.random.default_rng(0).random((n + m, 3)), np.eye(3) * 9) for n, m in ((1, 1), (2, 1))
    ]
    assert [r["valid_composition"] for r in strontium_oxides] == [True, True]  # Sr+1 is in smact14
    assert [r["valid_composition_icsd24"] for r in strontium_oxides] == [True, False]


def test_crystals_of_many_elements_and_of_300_atoms_are_scored_in_bounded_time():
    rng = np.random.default_rng(1)
    elements = np.setdiff1d(np.arange(1, 84), [2, 10, 18, 61])
    many = [crystal(rng.choice(elements, 12, replace=False), rng.random((12, 3)), np.eye(3) * 7) for _ in range(100)]
    large = [crystal(rng.choice(elements, 300), rng.random((300, 3)), np.eye(3) * 20) for _ in range(5)]
    dense = [crystal(rng.choice(elements, 300), rng.random((300, 3)), np.eye(3) * 0.5)]
    table = Validity().score(Crystals.concatenate(many + large + dense))
    assert table.num_rows == 106
    assert not table["valid_structure"][105].as_py()
    assert None not in table["min_distance"].to_pylist()


@pytest.mark.filterwarnings("error")
def test_noble_gases_and_the_heaviest_elements_are_scored_without_a_word():
    assert row([2, 118], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 4)["reason"] == (
        "composition: SMACT has no data for Og"
    )


def test_memory_stays_bounded_for_crystals_of_thousands_of_atoms():
    rng = np.random.default_rng(2)
    large = crystal(np.full(4000, 26), rng.random((4000, 3)), np.eye(3) * 40)
    Validity().score(crystal(*ROCK_SALT))  # SMACT's tables are read
    tracemalloc.start()
    Validity().score(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # its 8 million pairs at once would be 192 MB


def test_the_order_of_crystals_and_their_company_change_nothing():
    rng = np.random.default_rng(3)
    parts = [
        crystal(rng.integers(1, 90, n), rng.random((n, 3)), np.eye(3) * 4 + rng.normal(size=(3, 3)))
        for n in rng.integers(1, 9, 40)
    ]
    together = Validity().score(Crystals.concatenate(parts)).to_pylist()
    assert together == [Validity().score(part).to_pylist()[0] for part in parts]


def test_rates_count_all_requested_crystals_also_those_that_do_not_exist():
    table = pa.table(
        {
            "valid_composition": [True, True, False, False],
            "valid_composition_icsd24": [True, False, False, False],
            "valid_structure": [True, True, True, False],
            "valid": [True, True, False, False],
            "reason": [None, f"{COLLAPSED}: 0.300 A", "composition: no", "could not be parsed"],
        }
    )
    metrics = Validity().summary({"validity": table}, None, seed=0)
    assert {name: metric.value for name, metric in metrics.items()} == {
        "valid_composition": 0.5,
        "valid_composition_icsd24": 0.25,
        "valid_structure": 0.75,
        "valid": 0.5,
        "collapsed_rate": 0.25,
    }
    assert all(metric.n == 4 and metric.low < metric.value < metric.high for metric in metrics.values())


def test_no_crystals_give_undefined_rates():
    task = Validity()
    empty = task.schema.empty_table()
    assert {metric.value for metric in task.summary({"validity": empty}, None, seed=0).values()} == {None}


def test_the_protocol_is_plain_json_and_the_task_travels_to_workers():
    protocol = Validity().protocol()
    assert json.loads(json.dumps(protocol, allow_nan=False)) == protocol
    assert protocol["smact"][0].isdigit()
    assert pickle.loads(pickle.dumps(Validity())) == Validity()
