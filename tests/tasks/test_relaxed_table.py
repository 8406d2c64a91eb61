"""What the run folder keeps of a relaxed crystal."""

import numpy as np
import pytest

from tasks.stability.chain import Stage, Verdict, judge
from tasks.stability.hull import Hull
from tasks.stability.relaxation import RelaxationSettings, Relaxed
from tasks.stability.relaxed_table import displacement, kept_table, read_relaxed
from tests.toy_potential import Counting, crystal, rattled

SALT = crystal([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 4)


def relaxed(frac_coords, edge, energy=-4.0):
    return Relaxed(energy, np.array(frac_coords, float), np.eye(3) * edge, True, 5, 0.01, None)


def kept(outcome, hull):
    return kept_table(SALT, np.array([0]), [Verdict(outcome, 0.0, "toy")], {"toy": hull}).to_pylist()[0]


def test_a_crystal_that_drifts_as_a_whole_or_over_the_cells_edge_has_not_moved():
    drifted = relaxed([[0.9, 0.1, 0.2], [0.4, 0.6, 0.7]], 4)
    assert displacement(SALT, drifted) == pytest.approx(0, abs=1e-12)


def test_displacement_is_the_root_mean_square_over_atoms_in_the_relaxed_cell():
    assert displacement(SALT, relaxed([[0, 0, 0], [0.6, 0.5, 0.5]], 5)) == pytest.approx(0.25)


def test_the_change_of_volume_is_a_share_of_the_volume_as_generated():
    assert kept(relaxed(SALT.frac_coords, 4.4), None)["volume_change"] == pytest.approx(1.1**3 - 1)


def test_a_crystal_that_could_not_be_relaxed_has_neither_displacement_nor_change_of_volume():
    stand_in = Relaxed(-1.0, SALT.frac_coords, np.eye(3) * 9, False, 0, np.inf, "over-dense")
    row = kept(stand_in, None)
    assert (row["rmsd"], row["volume_change"], row["fmax"]) == (None, None, None)


def test_formation_energy_is_counted_from_the_lowest_phase_of_each_element():
    hull = Hull(["Na", "Na2", "Cl"], np.array([-1.2, -1.3, -1.9]), {})
    assert kept(relaxed(SALT.frac_coords, 4), hull)["formation_energy_per_atom"] == pytest.approx(-2.0 + 1.6)


def test_without_a_hull_or_an_element_in_it_there_is_no_formation_energy():
    for hull in (None, Hull(["Na"], np.array([-1.2]), {})):
        assert kept(relaxed(SALT.frac_coords, 4), hull)["formation_energy_per_atom"] is None


def test_the_outcomes_of_a_chain_are_read_back_as_they_were():
    given = rattled(3, 2)
    verdicts = judge(given, [Stage(Counting(), None)], RelaxationSettings())
    table = kept_table(given, np.arange(2), verdicts, {"toy": None})
    for found, verdict in zip(read_relaxed(table), verdicts, strict=True):
        np.testing.assert_array_equal(found.frac_coords, verdict.relaxed.frac_coords)
        np.testing.assert_array_equal(found.lattice, verdict.relaxed.lattice)
        assert (found.energy, found.steps) == (verdict.relaxed.energy, verdict.relaxed.steps)
