"""The batch type: what it refuses, how it slices, and that its figures are pymatgen's."""

import pickle

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure

from bench import crystals as crystals_module
from bench.crystals import Crystals, FilteredCrystals, filter_crystals, wrap_frac_coords
from tests.random_crystals import random_crystals


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_atoms": [2, 0], "atomic_numbers": [1, 2], "frac_coords": np.zeros((2, 3))}, "crystal 1 .*has no atoms"),
        ({"atomic_numbers": [1, 2, 119]}, "crystal 1 .*atomic number 119"),
        ({"atomic_numbers": [1, 0, 3]}, "crystal 0 .*atomic number 0"),
        ({"atomic_numbers": [1, 2.5, 3]}, "atomic_numbers must be whole"),
        ({"num_atoms": [2, np.nan]}, "num_atoms must be whole"),
        ({"frac_coords": [[0, 0, 0], [0, np.nan, 0], [0, 0, 0]]}, "crystal 0 .*coordinate is not finite"),
        ({"frac_coords": np.full((3, 3), np.inf)}, "crystal 0 .*coordinate is not finite"),
        ({"lattices": [np.eye(3), np.full((3, 3), np.nan)]}, "crystal 1 .*lattice is not finite"),
        ({"lattices": [np.eye(3), np.ones((3, 3))]}, "crystal 1 .*volume"),
        ({"lattices": [np.eye(3) * 1e200, np.eye(3)]}, "crystal 0 .*volume inf"),
        ({"lattices": [np.eye(3)]}, "2 crystals by num_atoms, but 1 lattices"),
        ({"num_atoms": [2, 2]}, "add up to 4"),
        ({"num_atoms": [4, -1]}, "negative"),
    ],
)
def test_a_wrong_crystal_is_refused_by_its_number(changes: dict, says: str) -> None:
    right = {
        "num_atoms": [2, 1],
        "atomic_numbers": [1, 2, 3],
        "frac_coords": np.zeros((3, 3)),
        "lattices": [np.eye(3), np.eye(3)],
    }
    Crystals(**right)
    with pytest.raises(ValueError, match=says):
        Crystals(**{**right, **changes})


def test_filter_crystals_keeps_the_good_crystals_and_says_what_is_wrong_with_the_others() -> None:
    good = random_crystals([3, 1, 300, 2])
    numbers, lattices = good.atomic_numbers.copy(), good.lattices.copy()
    numbers[0], lattices[2] = 0, np.nan
    filtered = filter_crystals(good.num_atoms, numbers, good.frac_coords, lattices)
    assert filtered.requested == 4
    assert filtered.indices.tolist() == [1, 3]
    assert filtered.crystals == good[[1, 3]]
    assert list(filtered.reasons) == [0, 2]
    assert "atomic number 0" in filtered.reasons[0]
    assert "not finite" in filtered.reasons[2]


def test_filter_crystals_refuses_arrays_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="1 crystals of 2 atoms"):
        filter_crystals([2], [1], np.zeros((1, 3)), np.eye(3))


def test_coordinates_are_wrapped_below_one_even_from_just_below_zero() -> None:
    wrapped = wrap_frac_coords([-1e-17, 1.0, -0.25, 7.5, 0.0])
    assert wrapped.tolist() == [0.0, 0.0, 0.75, 0.5, 0.0]
    assert not np.signbit(wrapped).any()


def test_arrays_cannot_be_changed_and_are_not_the_callers() -> None:
    lattices = np.eye(3)[None].copy()
    crystals = Crystals([1], [1], np.zeros((1, 3)), lattices)
    lattices[0, 0, 0] = 5
    assert crystals.lattices[0, 0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        crystals.lattices[0, 0, 0] = 5


@pytest.mark.parametrize(
    "key", [1, -1, slice(1, None), slice(None, None, -1), [2, 0, 2], np.array([True, False, True]), [], slice(0, 0)]
)
def test_a_slice_holds_the_same_crystals_one_by_one(key: object) -> None:
    crystals = random_crystals([4, 1, 7])
    chosen = np.atleast_1d(np.arange(3)[np.asarray(key, dtype=int) if isinstance(key, list) else key])
    part = crystals[key]  # type: ignore[index]
    assert len(part) == len(chosen)
    for place, original in enumerate(chosen):
        for ours, theirs in zip(part.arrays(place), crystals.arrays(int(original)), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_index_beyond_the_batch_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="crystal 3 of 3"):
        random_crystals([1, 1, 1])[3]


def test_concatenated_slices_are_the_batch_again() -> None:
    crystals = random_crystals([4, 1, 7, 2])
    assert Crystals.concatenate([crystals[:1], Crystals.empty(), crystals[1:]]) == crystals
    assert Crystals.concatenate([]) == Crystals.empty()
    assert crystals != crystals[::-1]


def test_structures_go_round_through_pymatgen() -> None:
    crystals = random_crystals([4, 1, 20])
    assert Crystals.from_structures(crystals) == crystals


def test_a_disordered_structure_is_refused_with_its_formula() -> None:
    disordered = Structure(Lattice.cubic(4), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match=r"crystal 0: has partial occupancies \(Fe0.5 Ni0.5\)"):
        Crystals.from_structures([disordered])


def test_densities_elements_volumes_and_formulas_are_those_of_pymatgen() -> None:
    heaviest = Crystals([2], [118, 1], np.zeros((2, 3)), 4 * np.eye(3))
    crystals = Crystals.concatenate([random_crystals([1, 2, 30, 300, 5]), heaviest])
    structures = list(crystals)
    np.testing.assert_allclose(crystals.densities, [float(s.density) for s in structures], rtol=1e-12)
    np.testing.assert_allclose(crystals.volumes, [s.volume for s in structures], rtol=1e-12)
    assert crystals.num_elements.tolist() == [len(s.composition) for s in structures]
    assert [crystals.formula(b) for b in range(6)] == [s.composition.reduced_formula for s in structures]
    assert Composition(crystals.formula(5)) == Composition("OgH")


def test_an_empty_batch_has_empty_figures() -> None:
    empty = Crystals.empty()
    assert len(empty) == len(empty.densities) == len(empty.num_elements) == len(empty.volumes) == 0
    assert list(empty) == []


def test_a_batch_survives_the_way_to_a_worker() -> None:
    crystals = random_crystals([4, 1])
    assert pickle.loads(pickle.dumps(crystals)) == crystals


@pytest.mark.parametrize(
    ("indices", "reasons", "says"),
    [
        ([0], {}, "2 crystals, but 1 indices"),
        ([0, 1], {1: "x"}, "each of 0"),
        ([0, 2], {3: "x"}, "each of 0"),
        ([1, 0], {}, "ascend"),
    ],
)
def test_filtered_places_must_be_each_place_once_in_order(indices: list, reasons: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FilteredCrystals(random_crystals([1, 2]), np.array(indices), reasons)


def test_filtered_parts_put_together_and_taken_apart_are_the_same() -> None:
    crystals = random_crystals([1, 2, 3])
    first = FilteredCrystals(crystals[:2], np.array([0, 2]), {1: "a", 3: "b"})
    second = FilteredCrystals(crystals[2:], np.array([1]), {0: "c"})
    both = FilteredCrystals.concatenate([first, second])
    assert both.indices.tolist() == [0, 2, 5]
    assert dict(both.reasons) == {1: "a", 3: "b", 4: "c"}
    assert both.rows(0, 4) == first
    assert both.rows(4, 6) == second
    assert first != FilteredCrystals(crystals[:2], np.array([0, 2]), {1: "a", 3: "other"})


def test_the_old_names_still_work_and_say_the_new_ones() -> None:
    with pytest.warns(DeprecationWarning, match="is now called filter_crystals"):
        assert crystals_module.sift is filter_crystals
    with pytest.warns(DeprecationWarning, match="is now called FilteredCrystals"):
        assert crystals_module.Sifted is FilteredCrystals
    with pytest.raises(AttributeError, match="has no attribute 'sieve'"):
        _ = crystals_module.sieve
