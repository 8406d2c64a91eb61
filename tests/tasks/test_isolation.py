"""Atoms that feel nothing: a crystal with one is never stable, whatever energy its potential gives."""

import numpy as np
import pytest
import torch

from bench.crystals import Crystals
from tasks.stability.isolation import lone_atoms
from tasks.stability.potentials import Evaluation, Potential
from tasks.stability.relaxation import relax
from tests.toy_potential import CUTOFF, Counting, crystal, morse, rattled


def test_a_single_atom_beyond_its_own_images_reach_is_alone():
    outcome = relax(crystal([55], [[0, 0, 0]], np.eye(3) * (CUTOFF + 0.1)), Counting())[0]
    assert outcome.reason == "its atom (Cs) has no neighbour within 6 A, the potential's range"
    assert not outcome.converged
    assert outcome.energy == 0.0


def test_one_lone_atom_in_a_box_with_a_molecule_is_named_and_counted():
    box = crystal([7, 7, 3], [[0, 0, 0], [0.06, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 40)
    outcome = relax(box, Counting())[0]
    assert outcome.reason.startswith("it has")  # so little matter in it is refused before
    smaller = crystal([7, 7, 3], [[0, 0, 0], [0.17, 0, 0], [0.5, 0.5, 0.5]], np.diag([15.0, 13.0, 7.0]))
    outcome = relax(smaller, Counting())[0]
    assert outcome.reason == "1 of its 3 atoms (Li) has no neighbour within 6 A, the potential's range"


def test_an_atoms_own_image_is_a_neighbour_in_one_direction_too():
    chain = crystal([29], [[0.3, 0.7, 0.1]], np.diag([2.6, 30.0, 30.0]))
    assert len(lone_atoms(chain, 6.0)) == 0
    assert len(lone_atoms(chain, 2.5)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_lone_atoms_are_those_without_any_of_pymatgens_neighbours(seed):
    rng = np.random.default_rng(seed)
    sparse = crystal(np.full(12, 29), rng.random((12, 3)), np.eye(3) * 14 + rng.normal(size=(3, 3)))
    expected = [i for i, near in enumerate(sparse.structure(0).get_all_neighbors(4.0)) if not near]
    assert lone_atoms(sparse, 4.0).tolist() == expected


def repulsive(found, vectors):
    """Drives atoms out of each other's reach."""
    pairs = (1 - vectors.norm(dim=1) / CUTOFF).clamp(min=0) ** 2 * 4
    return torch.zeros(len(found.crystal_of_atom)).index_add(0, torch.from_numpy(found.centres), pairs)


def test_atoms_that_end_out_of_reach_while_relaxing_are_no_minimum():
    start = crystal([29], [[0, 0, 0]], np.eye(3) * 5.6)
    outcome = relax(start, Counting(repulsive))[0]
    assert outcome.steps > 0
    assert "no neighbour within 6 A" in outcome.reason
    assert not outcome.converged


class Foreign:
    """A potential of another package, which does not say how far it reaches."""

    name, elements, batch_atoms = "foreign", frozenset(range(1, 95)), 1

    def __init__(self, forces="right"):
        self.forces, self.inner = forces, Counting(morse)

    def protocol(self):
        return {"name": self.name, "sha256": "of foreign"}

    def evaluate(self, crystals, derivatives=True):
        found = self.inner.evaluate(crystals, derivatives)
        if self.forces == "missing":
            return Evaluation(found.energies, np.zeros((0, 3)), np.zeros((0, 3, 3)))
        if self.forces == "zero":
            return Evaluation(found.energies, 0 * found.forces, 0 * found.stresses)
        if (crystals.volumes / crystals.num_atoms > 200).any():
            raise ValueError("graph has isolated atoms")
        return found


def test_a_potential_that_does_not_say_its_range_has_the_usual_one():
    assert isinstance(Foreign(), Potential)
    lone = crystal([55], [[0, 0, 0]], np.eye(3) * 7.9)
    good, outcome = relax(Crystals.concatenate([rattled(0), lone]), Foreign())
    assert good.converged
    assert "(Cs) has no neighbour within 6 A" in outcome.reason


@pytest.mark.parametrize("forces", ["missing", "zero"])
def test_an_energy_without_forces_is_no_minimum(forces):
    outcome = relax(rattled(1), Foreign(forces))[0]
    assert outcome.reason.startswith("the potential gives its energy without forces")
    assert not outcome.converged
