"""Smallest periodic distances are exact for any cell."""

import itertools

import numpy as np
import pytest
from ase.geometry.minkowski_reduction import minkowski_reduce
from pymatgen.core import Lattice, Structure

from bench.crystals import Crystals
from tasks import closest_pair
from tasks.closest_pair import closest_pairs, reduce_lattices, shortest_translations

FCC = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
BCC = np.array([[-1.0, 1, 1], [1, -1, 1], [1, 1, -1]])


def crystal(lattice, frac_coords):
    coords = np.asarray(frac_coords, dtype=float)
    return Crystals([len(coords)], np.ones(len(coords), int), coords, np.asarray(lattice, dtype=float))


def by_brute_force(frac_coords, lattice):
    """All images up to 4 cells away, in the cell that ASE reduces this one to."""
    reduced, change = minkowski_reduce(lattice)
    coords = frac_coords @ np.linalg.inv(change)
    images = np.array(list(itertools.product(range(-4, 5), repeat=3)))
    best = np.inf
    for a, b in itertools.combinations(coords, 2):
        offset = a - b - np.round(a - b)
        best = min(best, np.linalg.norm((offset + images) @ reduced, axis=1).min())
    return best


def random_cells(rng, number):
    """Cells of many shapes: cubic, close-packed and hexagonal ones, exact and strained, needles and plates."""
    for place in range(number):
        base = [FCC, BCC, np.eye(3), np.array([[1, 0, 0], [-0.5, 0.75**0.5, 0], [0, 0, 1.6]])][place % 4]
        yield (base + rng.normal(size=(3, 3)) * rng.choice([0, 0.02, 0.2])) * rng.choice([0.01, 1, 4], size=(3, 1))


def unimodular(rng, moves, largest):
    matrix = np.eye(3)
    for _ in range(moves):
        i, j = rng.permutation(3)[:2]
        move = np.eye(3)
        move[i, j] = rng.integers(-largest, largest + 1)
        matrix = move @ matrix
    return matrix


def test_distances_equal_brute_force_in_cells_of_every_shape():
    rng = np.random.default_rng(0)
    cells = [cell for cell in random_cells(rng, 200) if abs(np.linalg.det(cell)) > 1e-5]
    coords = [rng.random((rng.integers(2, 6), 3)) for _ in cells]
    batch = Crystals.concatenate([crystal(cell, f) for cell, f in zip(cells, coords, strict=True)])
    expected = [by_brute_force(f, cell) for cell, f in zip(cells, coords, strict=True)]
    np.testing.assert_allclose(closest_pairs(batch), expected, rtol=1e-9)


def test_distances_equal_pymatgens_on_random_crystals():
    rng = np.random.default_rng(1)
    for _ in range(60):
        lattice = Lattice.from_parameters(*rng.uniform(2, 12, 3), *rng.uniform(55, 115, 3))
        if not lattice.volume > 1:
            continue
        structure = Structure(lattice, ["O"] * 6, rng.random((6, 3)))
        distances = structure.distance_matrix + np.diag(np.full(6, np.inf))
        assert closest_pairs(Crystals.from_structures([structure]))[0] == pytest.approx(distances.min(), rel=1e-9)


def test_another_basis_of_the_same_lattice_changes_nothing():
    rng = np.random.default_rng(2)
    for cell in random_cells(rng, 100):
        if abs(np.linalg.det(cell)) < 1e-5:
            continue
        coords, change = rng.random((4, 3)), unimodular(rng, moves=5, largest=4)
        skewed = crystal(change @ cell, coords @ np.round(np.linalg.inv(change)))
        assert closest_pairs(skewed)[0] == pytest.approx(closest_pairs(crystal(cell, coords))[0], rel=1e-5)
        assert shortest_translations(skewed.lattices)[0] == pytest.approx(
            shortest_translations(cell[None])[0], rel=1e-5
        )


def test_a_hugely_skewed_cell_is_measured_in_its_reduced_one():
    lattice = np.array([[4.0, 0, 0], [4e6, 4, 0], [8e6, 4e6, 4]])
    assert closest_pairs(crystal(lattice, [[0, 0, 0], [0.5, 0, 0]]))[0] == pytest.approx(2.0, abs=1e-6)
    assert shortest_translations(lattice[None])[0] == pytest.approx(4.0, abs=1e-6)


def test_a_needle_shaped_cell_finds_the_image_along_its_short_side():
    needle = np.diag([0.01, 0.01, 1e4])
    assert closest_pairs(crystal(needle, [[0, 0, 0], [0.5, 0.5, 0.25]]))[0] == pytest.approx(2500)
    assert shortest_translations(needle[None])[0] == pytest.approx(0.01)


def test_a_flat_cell_finds_the_closest_image_through_its_short_side():
    flat = np.array([[20.0, 0, 0], [0, 20, 0], [0, 0, 1]])
    assert closest_pairs(crystal(flat, [[0, 0, 0.95], [0, 0, 0.05]]))[0] == pytest.approx(0.1)


def test_reduced_vectors_span_the_same_lattice_and_coordinates_follow():
    rng = np.random.default_rng(3)
    cells = np.array([unimodular(rng, 4, 3) @ cell for cell in random_cells(rng, 80)])
    reduced, to_reduced = reduce_lattices(cells)
    np.testing.assert_array_equal(to_reduced, np.round(to_reduced))
    np.testing.assert_allclose(np.abs(np.linalg.det(to_reduced)), 1.0, rtol=1e-6)
    points = rng.random((len(cells), 5, 3))
    np.testing.assert_allclose((points @ to_reduced) @ reduced, points @ cells, atol=1e-6)


def test_atoms_on_one_site_are_at_distance_zero_and_on_the_boundary_too():
    assert closest_pairs(crystal(np.eye(3) * 3, [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]))[0] == 0
    assert closest_pairs(crystal(np.eye(3) * 3, [[0, 0, 0], [1 - 1e-12, 0, 0]]))[0] == pytest.approx(0, abs=1e-9)


def test_own_images_do_not_count_and_a_single_atom_has_no_distance():
    tiny = np.eye(3) * 0.3
    assert np.isnan(closest_pairs(crystal(tiny, [[0, 0, 0]]))[0])
    assert shortest_translations(tiny[None])[0] == pytest.approx(0.3)
    assert closest_pairs(crystal(np.diag([0.3, 9, 9]), [[0, 0, 0], [0, 0.5, 0]]))[0] == pytest.approx(4.5)


def test_batches_of_mixed_sizes_give_each_crystal_its_own_distance():
    rng = np.random.default_rng(4)
    parts = [crystal(np.eye(3) * 5 + rng.normal(size=(3, 3)), rng.random((n, 3))) for n in (3, 1, 7, 3, 300, 2)]
    together = closest_pairs(Crystals.concatenate(parts))
    np.testing.assert_array_equal(together, np.concatenate([closest_pairs(part) for part in parts]))


def test_pairs_in_small_blocks_give_the_same_distances(monkeypatch):
    rng = np.random.default_rng(5)
    batch = Crystals.concatenate([crystal(FCC * s, rng.random((40, 3))) for s in (0.1, 1, 5)])
    expected = closest_pairs(batch)
    monkeypatch.setattr(closest_pair, "MAX_PAIRS", 90)
    np.testing.assert_allclose(closest_pairs(batch), expected, rtol=1e-12)


@pytest.mark.parametrize("num_atoms", [1, 2, 5, 23])
@pytest.mark.parametrize("block", [1, 7, 50_000])
def test_blocks_hold_every_pair_once(monkeypatch, num_atoms, block):
    monkeypatch.setattr(closest_pair, "MAX_PAIRS", block)
    pairs = [pair for i, j in closest_pair._pairs(num_atoms) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert sorted(pairs) == list(itertools.combinations(range(num_atoms), 2))


def test_a_cell_beyond_double_precision_has_no_distance_and_costs_the_others_nothing():
    extreme = crystal(np.diag([1e200, 1e-100, 1e-100]), [[0, 0, 0], [0.5, 0, 0]])
    usual = crystal(np.eye(3) * 4, [[0, 0, 0], [0.5, 0, 0]])
    distances = closest_pairs(Crystals.concatenate([extreme, usual]))
    assert np.isnan(distances[0])
    assert distances[1] == pytest.approx(2.0)


def test_no_crystals_give_no_distances():
    assert len(closest_pairs(Crystals.empty())) == 0
    assert len(shortest_translations(Crystals.empty().lattices)) == 0
