"""Matching by StructureMatcher: the filter before it loses no match, and cells that it cannot bear are refused."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from bench.crystals import Crystals
from bench.datasets import load_split
from tasks.structure_match import Fingerprint, NotComparable, Primitive

MATCHER = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)  # as CDVAE's and DiffCSP's evaluations


def primitive(structure: Structure) -> Primitive:
    return Primitive.of(Crystals.from_structures([structure]), 0)


def random_crystal(rng: np.random.Generator) -> Structure:
    elements = rng.choice(["Na", "Cl", "O", "Ti"], size=rng.integers(1, 5)).tolist()
    cell = Lattice.from_parameters(*rng.uniform(3, 7, 3), *rng.uniform(65, 115, 3))
    return Structure(cell, elements, rng.random((len(elements), 3)))


def disguised(structure: Structure, rng: np.random.Generator) -> Structure:
    """Nearly the same crystal, strained about as much as the matcher bears, in another cell with another origin."""
    lengths = np.array(structure.lattice.abc) * rng.uniform(0.72, 1.4, 3) ** rng.choice([0.2, 0.6, 1.0])
    angles = np.array(structure.lattice.angles) + rng.uniform(-11, 11, 3) * rng.choice([0.2, 1.0])
    cell = Lattice.from_parameters(*lengths * rng.uniform(0.6, 1.6), *angles)
    coords = structure.frac_coords + rng.random(3) + rng.normal(scale=0.02, size=(len(structure), 3))
    order = rng.permutation(len(structure))
    changed = Structure(cell, [structure.species[i] for i in order], coords[order])
    sheared = np.triu(rng.integers(-1, 2, (3, 3)), 1) + np.diag(rng.permutation([1, 1, rng.integers(1, 3)]))
    changed.make_supercell(sheared)
    return changed


def test_what_pymatgen_matches_is_matched_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    seen: Counter[tuple[bool, bool]] = Counter()
    for _ in range(150):
        first = random_crystal(rng)
        second = disguised(first, rng)
        for one, other in ((first, second), (second, first)):
            expected = bool(MATCHER.fit(one, other))
            passed = primitive(one).fingerprint.may_match(primitive(other).fingerprint)
            assert primitive(one).matches(primitive(other)) == expected
            seen[expected, passed] += 1
    assert seen[True, False] == 0
    assert min(seen[True, True], seen[False, True], seen[False, False]) >= 10  # so all kinds were there


def test_no_match_is_lost_where_an_edge_is_at_the_limit_of_the_tolerance() -> None:
    for stretch in np.linspace(1.3, 1.6, 61):  # at equal volume, the long edges' ratio passes 1.3 on the way
        first = Structure(Lattice.orthorhombic(3, 4, 5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        second = Structure(Lattice.orthorhombic(3, 4, 5 * stretch), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for one, other in ((first, second), (second, first)):
            assert primitive(one).matches(primitive(other)) == MATCHER.fit(one, other), stretch


@pytest.mark.needs_data
@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_no_match_between_real_crystals_of_one_formula_is_lost() -> None:
    crystals = load_split("mp20", "test", download=False)
    rows = defaultdict(list)
    for b in range(len(crystals)):
        rows[crystals.formula(b)].append(b)
    pairs = [pair for members in rows.values() for pair in pairwise(members)]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:120]
    seen: Counter[tuple[bool, bool]] = Counter()
    for one, other in (pairs[i] for i in chosen):
        expected = MATCHER.fit(crystals.structure(one), crystals.structure(other))
        first, second = Primitive.of(crystals, one), Primitive.of(crystals, other)
        assert first.matches(second) == expected, (one, other)
        seen[expected, first.fingerprint.may_match(second.fingerprint)] += 1
    assert seen[True, True] >= 5
    assert seen[False, False] >= 40  # which the matcher need not look at


def test_a_supercell_of_distinct_atoms_has_the_fingerprint_of_its_primitive_cell() -> None:
    cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    fingerprint = primitive(cell).fingerprint
    assert fingerprint.atoms == ((11, 1), (17, 1))
    np.testing.assert_allclose(fingerprint.lengths, np.full(3, 2 ** (1 / 6)))  # of the rhombohedral cell
    assert isinstance(fingerprint, Fingerprint)


THIN = {
    "a needle": np.diag([1.0, 1.0, 1e4]),
    "a plate": np.diag([1.0, 300.0, 300.0]),
    "an edge below half an angstrom": np.diag([0.3, 4.0, 4.0]),
    "a skewed cell of almost no volume": np.array([[1e5, 0, 0], [1e5, 1e-3, 0], [0, 1e5, 1.0]]),
    "a tiny cell": np.diag([1e-2, 1e-2, 1e-2]),
}


@pytest.mark.parametrize("kind", THIN)
def test_cells_that_would_take_minutes_or_gigabytes_are_refused_at_once(kind: str) -> None:
    crystal = Crystals(np.array([2]), np.array([6, 8]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), THIN[kind][None])
    start = time.perf_counter()
    with pytest.raises(NotComparable, match=r"edge"):
        Primitive.of(crystal, 0)
    assert time.perf_counter() - start < 5


def test_the_thinnest_cells_that_are_compared_take_seconds_at_most() -> None:
    for shape in ((1, 1, 30), (1, 9.5, 9.5)):
        cells = [Lattice.orthorhombic(*np.array(shape) * scale) for scale in (1.0, 1.1)]
        first, second = (Structure(cell, ["C", "O"], [[0, 0, 0], [0.5, 0.5, 0.2]]) for cell in cells)
        start = time.perf_counter()
        assert primitive(first).matches(primitive(second))
        assert time.perf_counter() - start < 20


def test_atoms_on_one_site_and_three_hundred_atoms_are_compared() -> None:
    overlap = Structure(Lattice.cubic(4), ["C", "C", "O"], [[0, 0, 0], [0, 0, 0], [0.5, 0.5, 0.5]])
    assert primitive(overlap).matches(primitive(overlap))
    rng = np.random.default_rng(0)
    large = Structure(Lattice.cubic(12), ["C"] * 150 + ["O"] * 149 + ["N"], rng.random((300, 3)))
    assert primitive(large).matches(primitive(large))


def test_noble_gases_and_elements_without_data_are_compared() -> None:
    odd = Structure(Lattice.cubic(4), ["He", "Og"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert primitive(odd).matches(primitive(odd))
