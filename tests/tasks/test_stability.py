"""The stability task: columns, rates, and what happens to crystals that cannot be relaxed or have no hull."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from monty.serialization import dumpfn
from pymatgen.entries.computed_entries import ComputedEntry

from bench.crystals import Crystals
from tasks.stability.hull import hull_path
from tasks.stability.potentials import load_potential, potential_protocol
from tasks.stability.relaxation import RelaxationSettings
from tasks.stability.task import STABLE_BELOW, Stability
from tests.toy_potential import crystal

COLUMNS = [
    "formula",
    "energy_per_atom",
    "e_above_hull",
    "stable",
    "converged",
    "relax_steps",
    "potential_of_verdict",
    "stable_probability",
    "reason",
]
PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def rock_salt(first, second, lattice_constant):
    primitive = (np.ones((3, 3)) - np.eye(3)) * lattice_constant / 2
    return crystal([first, second], [[0, 0, 0], [0.5, 0.5, 0.5]], primitive)


def samples():
    return Crystals.concatenate(
        [
            rock_salt(12, 8, 4.3),  # magnesia, stable
            rock_salt(11, 17, 5.6),  # salt, stable
            crystal([47, 79, 9, 9, 9], PEROVSKITE, np.eye(3) * 4.2),  # AgAuF3, which nobody has seen
            crystal([84], [[0, 0, 0]], np.eye(3) * 3.4),  # polonium: no potential knows it
            crystal([8, 8], [[0, 0, 0], [0, 0, 0]], np.eye(3) * 4),
            crystal([8] * 9, np.random.default_rng(0).random((9, 3)), np.eye(3) * 1.5),
            rock_salt(12, 8, 4.3),
        ]
    )


@pytest.fixture(scope="module")
def scored():
    return Stability("chgnet").score(samples())


def test_a_table_has_the_columns_of_the_store_in_their_types(scored):
    task = Stability("chgnet")
    assert scored.schema.names == COLUMNS
    assert task.schema.names == ["index", *COLUMNS]
    assert [task.schema.field(name).type for name in COLUMNS] == scored.schema.types
    assert task.score(Crystals.empty()).schema == scored.schema


def test_known_stable_crystals_are_stable_and_an_impossible_one_is_not(scored):
    rows = scored.to_pylist()
    for row in rows[:2]:
        assert row["stable"]
        assert row["converged"]
        assert abs(row["e_above_hull"]) < 0.05
        assert row["reason"] is None
    assert not rows[2]["stable"]
    assert rows[2]["e_above_hull"] > STABLE_BELOW
    assert rows[0]["energy_per_atom"] == pytest.approx(-6.31, abs=0.03)


def test_every_crystal_whose_elements_the_hull_knows_has_a_finite_value(scored):
    rows = scored.to_pylist()
    for row in (rows[4], rows[5]):
        assert np.isfinite(row["e_above_hull"])
        assert np.isfinite(row["energy_per_atom"])
        assert not row["stable"]
        assert not row["converged"]
        assert row["reason"]
    assert rows[5]["reason"].startswith("over-dense")


def test_an_element_without_a_reference_phase_gives_a_reason_and_no_number(scored):
    row = scored.to_pylist()[3]
    assert row["reason"] == "the hull has no phase of Po"
    assert row["energy_per_atom"] is None
    assert row["e_above_hull"] is None
    assert not row["stable"]


def test_an_atom_that_feels_nothing_is_not_stable_at_whatever_energy():
    caesium = crystal([55], [[0, 0, 0]], np.eye(3) * 7.9)
    (row,) = Stability("chgnet").score(caesium).to_pylist()
    assert row["e_above_hull"] < STABLE_BELOW
    assert not row["stable"]
    assert row["reason"] == "its atom (Cs) has no neighbour within 6 A, the potential's range"


def test_duplicates_have_the_same_row(scored):
    rows = scored.to_pylist()
    assert rows[6] == rows[0]


def test_stable_means_converged_and_below_the_threshold():
    task = Stability("chgnet", settings=RelaxationSettings(max_steps=1, fmax=1e-6))
    rows = task.score(samples()[:2]).to_pylist()
    assert all(abs(row["e_above_hull"]) < STABLE_BELOW for row in rows)
    assert not any(row["stable"] for row in rows)
    assert all(row["reason"].startswith("not converged in 1 steps") for row in rows)


def test_stored_energies_get_todays_verdicts_and_probabilities(scored):
    task = Stability("chgnet")
    old = scored.drop_columns(["potential_of_verdict", "stable_probability"])
    old = old.set_column(old.schema.get_field_index("stable"), "stable", pa.array([False] * len(old)))
    old = old.add_column(0, "index", pa.array(range(len(old)), pa.int64()))
    renewed = task.renewed(old, task.protocol() | {"calibration": None})
    assert renewed.drop_columns(["index"]).to_pylist() == scored.to_pylist()
    assert renewed.schema == task.schema
    fewer_steps = Stability("chgnet", settings=RelaxationSettings(max_steps=1)).protocol()
    with pytest.raises(ValueError, match="its energies come of another relaxation than today's"):
        task.renewed(old, fewer_steps)


def table():
    return pa.table(
        {
            "e_above_hull": [-0.01, 0.04, 0.09, 0.3, None, 0.02],
            "stable": [True, True, True, False, False, False],
            "converged": [True, True, True, True, False, False],
        }
    )


def test_rates_count_all_requested_crystals_with_other_thresholds_beside():
    metrics = Stability("chgnet").summary({"stability": table()}, None, 0)
    assert {name: metric.value for name, metric in metrics.items()} == {
        "stable_rate": 3 / 6,
        "stable_below_0_rate": 1 / 6,
        "stable_below_0.05_rate": 2 / 6,  # the last one did not converge
        "converged_rate": 4 / 6,
        "e_above_hull_median": pytest.approx(0.04),
    }
    assert metrics["stable_rate"].n == 6
    assert metrics["stable_rate"].low < 0.5 < metrics["stable_rate"].high


@pytest.mark.needs_potentials
def test_a_second_potential_has_names_of_its_own():
    task = Stability(potential="m3gnet", name="stability-m3gnet")
    metrics = task.summary({"stability-m3gnet": table()}, None, 0)
    assert "stable_rate[m3gnet]" in metrics
    assert all(name.endswith("[m3gnet]") for name in metrics)


@pytest.mark.needs_potentials
def test_where_two_potentials_disagree_is_counted_over_all_crystals():
    other = table().set_column(1, "stable", pa.array([True, False, True, True, False, False]))
    tables = {"stability": table(), "stability-m3gnet": other}
    found = Stability(potential="m3gnet", name="stability-m3gnet").summary(tables, None, 0)
    assert found["stable_disagreement_rate[m3gnet]"].value == 2 / 6
    assert found["stable_disagreement_rate[m3gnet]"].n == 6
    assert "stable_disagreement_rate" not in Stability("chgnet").summary(tables, None, 0)


def votes(*flags):
    return table().set_column(1, "stable", pa.array([flag == "+" for flag in "".join(flags)]))


def test_a_crystal_is_stable_by_all_potentials_or_by_more_than_half_of_them():
    two = {"stability": votes("+++---"), "stability-b": votes("++----")}
    task = Stability("chgnet")
    assert task.summary(two, None, 0)["stable_by_all_rate"].value == 2 / 6
    assert "stable_by_majority_rate" not in task.summary(two, None, 0)  # of two it would be all
    three = {**two, "stability-c": votes("+-+--+"), "validity": None}
    found = task.summary(three, None, 0)
    assert found["stable_by_all_rate"].value == 1 / 6
    assert found["stable_by_majority_rate"].value == 3 / 6
    assert found["stable_by_majority_rate"].n == 6
    four = {**three, "stability-d": votes("----++")}
    assert task.summary(four, None, 0)["stable_by_majority_rate"].value == 1 / 6  # two of four are no majority
    assert not any(name.startswith("stable_by") for name in task.summary({"stability": table()}, None, 0))


def test_no_crystals_and_none_with_a_number_give_undefined_figures():
    empty = Stability("chgnet").schema.empty_table()
    assert {metric.value for metric in Stability("chgnet").summary({"stability": empty}, None, 0).values()} == {None}


def test_the_protocol_is_plain_json_with_both_checksums_and_the_task_travels_to_workers():
    protocol = Stability("chgnet").protocol()
    assert json.loads(json.dumps(protocol, allow_nan=False)) == protocol
    assert protocol["potential"]["sha256"] == potential_protocol("chgnet")["sha256"]
    assert len(protocol["hull"]["sha256"]) == 64
    assert protocol["stable_below_ev_per_atom"] == 0.1
    assert pickle.loads(pickle.dumps(Stability("chgnet"))) == Stability("chgnet")


def test_the_default_chain_has_hulls_a_measured_error_and_a_calibration_that_hold_for_it():
    task = Stability()
    assert [part["name"] for part in task.protocol()["potential"]["chain"]] == ["chgnet", "sevennet-l3i5"]
    assert None not in task.protocol()["screen"]["hulls"]
    assert task.protocol()["calibration"] == task.calibration().sha256
    assert task.about()["error"]["crystals"] >= 100


def test_an_unknown_potential_is_refused_before_anything_is_sampled():
    with pytest.raises(ValueError, match="unknown potential 'gnome'"):
        Stability(potential="gnome").protocol()


def test_the_shipped_hull_knows_every_element_of_the_potential():
    from pymatgen.core import Element

    hull = Stability("chgnet")._hull()
    symbols = {str(Element.from_Z(z).symbol) for z in load_potential("chgnet").elements}
    assert symbols <= hull.elements


def test_a_hull_of_the_users_own_takes_the_place_of_the_packages(tmp_path):
    entries = [ComputedEntry(f, e, parameters={"run_type": "GGA"}) for f, e in (("Mg", -1.5), ("O2", -9.8))]
    dumpfn(entries, tmp_path / "entries.json")
    crystals = rock_salt(12, 8, 4.3)
    (packaged,) = Stability("chgnet").score(crystals).to_pylist()
    task = Stability("chgnet", hull=str(tmp_path / "entries.json"))
    (own,) = task.score(crystals).to_pylist()
    assert own["energy_per_atom"] == packaged["energy_per_atom"]
    assert own["e_above_hull"] < packaged["e_above_hull"] - 1  # no oxide to compete with
    assert task.protocol()["hull"] != Stability("chgnet").protocol()["hull"]


def test_a_built_hull_is_taken_from_its_file(tmp_path):
    path = hull_path("chgnet")
    (tmp_path / "own.parquet").write_bytes(path.read_bytes())
    card = json.loads(path.with_suffix(".json").read_text())  # type: ignore[attr-defined]
    (tmp_path / "own.json").write_text(json.dumps(card))
    assert Stability("chgnet", hull=str(tmp_path / "own.parquet")).protocol() == Stability("chgnet").protocol()
    card["potential"]["sha256"] = "of other weights"
    (tmp_path / "other.parquet").write_bytes(path.read_bytes())
    (tmp_path / "other.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="computed with other weights of chgnet"):
        Stability("chgnet", hull=str(tmp_path / "other.parquet")).protocol()
