"""The Materials Project's entries as a hull: every one is taken, or named with why it is not."""

import json

import numpy as np
import pytest
from monty.serialization import dumpfn
from pymatgen.entries.computed_entries import ComputedEntry

from tasks.stability.hull.mp_entries import chosen_run_types, read_mp_hull
from tasks.stability.task import Stability

IRON_U = {"Fe": 5.3, "O": 0}


def entry(formula, energy, run_type="GGA", hubbards=None, **more):
    kinds = {} if run_type is None else {"run_type": run_type}
    return ComputedEntry(formula, energy, parameters={**kinds, "hubbards": hubbards or {}}, **more)


def iron_oxides(plain="GGA", with_u="GGA+U"):
    return [
        entry("Fe", -8.3, plain),
        entry("O2", -9.8, plain),
        entry("Fe2O3", -33.5, with_u, IRON_U),
        entry("FeO", -12.8, with_u, IRON_U),
    ]


@pytest.fixture
def hull_of(tmp_path):
    def read(entries, *run_types):
        dumpfn(entries, tmp_path / "entries.json")
        return read_mp_hull(tmp_path / "entries.json", "chgnet", run_types)

    return read


@pytest.mark.parametrize(
    ("plain", "with_u"), [("GGA", "GGA_U"), ("gga", "gga+u"), (" GGA ", "Gga_u"), ("PBE", "PBE+U"), ("pbe", "PBE_U")]
)
def test_a_run_type_counts_however_it_is_spelled(hull_of, plain, with_u):
    hull, expected = hull_of(iron_oxides(plain, with_u)), hull_of(iron_oxides())
    assert sorted(hull.formulas) == ["Fe", "Fe2O3", "FeO", "O2"]
    np.testing.assert_array_equal(np.sort(hull.energies), np.sort(expected.energies))


def test_a_run_type_is_found_among_the_data_too(hull_of):
    entries = [*iron_oxides()[:3], entry("FeO", -12.8, None, IRON_U, data={"run_type": "GGA_U"})]
    assert "FeO" in hull_of(entries).formulas


@pytest.mark.parametrize(
    ("run_type", "hubbards", "named"),
    [
        ("R2SCAN", IRON_U, r"1 R2SCAN \(FeO mp-9\)"),
        ("r2SCAN", IRON_U, r"1 r2SCAN \(FeO mp-9\)"),
        (None, IRON_U, r"1 without a run type \(FeO mp-9\)"),
        ("HSE06", {}, r"1 HSE06 \(FeO mp-9\)"),
        ("GGA+U", {}, r"1 GGA\+U: Invalid U value of 0.0 on Fe, expected 5.3 \(FeO mp-9\)"),
        ("GGA_U", {"Fe": "much"}, r"1 GGA\+U: could not convert string to float: 'much' \(FeO mp-9\)"),
    ],
)
def test_a_phase_that_would_be_lost_is_named_with_its_number_and_refused(hull_of, run_type, hubbards, named):
    entries = [*iron_oxides()[:3], entry("FeO", -12.8, run_type, hubbards, entry_id="mp-9")]
    with pytest.raises(ValueError, match=rf"1 of 4 entries cannot be corrected by MP2020 \({named}\).* in Fe-O; "):
        hull_of(entries)


def test_an_element_that_would_be_lost_is_named(hull_of):
    with pytest.raises(ValueError, match=r"1 of 4 entries .* no entry of O would be left"):
        hull_of([entry("Fe", -8.3), entry("O2", -9.8, "R2SCAN"), entry("Al", -3.7), entry("Al3Fe", -20.0)])


def test_another_run_type_beside_the_same_material_is_left_out_with_a_word(hull_of):
    twins = [entry("Fe", -15.1, "R2SCAN", entry_id="mp-13-r2SCAN"), entry("FeO", -20.0, "R2SCAN", entry_id="mp-9-X")]
    own = [entry("Fe", -8.3, entry_id="mp-13-GGA"), entry("FeO", -12.8, "GGA+U", IRON_U, entry_id="mp-9-GGA+U")]
    hull = hull_of([*iron_oxides(), *own, *twins])
    assert len(hull.formulas) == 6
    assert "left out: 2 R2SCAN (Fe mp-13-r2SCAN, FeO mp-9-X)" in hull.card["geometry"]


def test_a_polymorph_of_another_run_type_alone_is_refused(hull_of):
    own = entry("FeO", -12.8, "GGA+U", IRON_U, entry_id="mp-9-GGA+U")
    with pytest.raises(ValueError, match="1 R2SCAN"):
        hull_of([*iron_oxides()[:3], own, entry("FeO", -20.0, "R2SCAN", entry_id="mp-10-r2SCAN")])


def test_run_types_that_were_chosen_are_taken_and_the_rest_is_left_out_with_its_number(hull_of):
    entries = [*iron_oxides(), entry("Fe3O4", -60.0, "R2SCAN"), entry("Fe3O4", -60.0, None)]
    hull = hull_of(entries, "gga", "GGA_U")
    assert "run types GGA and GGA+U; left out: 1 R2SCAN (Fe3O4), 1 without a run type (Fe3O4)" in hull.card["geometry"]
    plain = hull_of(entries, "GGA")
    assert sorted(plain.formulas) == ["Fe", "O2"]
    assert "2 GGA+U (Fe2O3, FeO)" in plain.card["geometry"]


def test_run_types_without_corrections_cannot_be_chosen():
    assert chosen_run_types(()) == ("GGA", "GGA+U")
    with pytest.raises(ValueError, match="--hull-run-types r2SCAN: MP2020 has corrections for GGA and GGA"):
        chosen_run_types(["GGA", "r2SCAN"])


def test_a_choice_that_leaves_nothing_is_refused(hull_of):
    with pytest.raises(ValueError, match="2 of 2 entries"):
        hull_of(iron_oxides()[:2], "GGA+U")


def test_a_choice_without_entries_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="--hull-run-types chooses among the entries of a JSON file"):
        Stability(hull_run_types=("GGA",)).protocol()


def test_an_item_that_is_no_entry_and_an_energy_that_is_no_number_are_named_by_place(tmp_path):
    path = tmp_path / "entries.json"
    dumpfn([*iron_oxides(), {"energy": -1.0}], path)
    with pytest.raises(ValueError, match="item 4 is of the type dict"):
        read_mp_hull(path, "chgnet")
    spoilt = [e.as_dict() for e in iron_oxides()]
    spoilt[2]["energy"] = float("nan")
    path.write_text(json.dumps(spoilt))
    with pytest.raises(ValueError, match=r"item 2 \(Fe2O3\) has the energy nan"):
        read_mp_hull(path, "chgnet")
    path.write_text('[{"@module": "pymatgen.core.entries", "@class": "ComputedEntry", "energy": 1}]')
    with pytest.raises(ValueError, match="no entries can be read there"):
        read_mp_hull(path, "chgnet")
