"""Relaxation: the same minima and criterion as ASE, and guards that touch no other crystal."""

import numpy as np
import pytest
from ase.filters import FrechetCellFilter

from bench.crystals import Crystals
from bench.datasets import load_split
from tasks.stability.minimiser import Minimiser
from tasks.stability.potentials import load_potential
from tasks.stability.relaxation import RelaxationSettings, relax, unrelaxed
from tests.ase_relaxation import PotentialCalculator, atoms_of, relax_by_ase
from tests.toy_potential import Counting, crystal, morse, rattled


def geometry(outcome, like):
    return crystal(like.atomic_numbers, outcome.frac_coords, outcome.lattice)


def test_minima_are_those_of_ase_with_the_same_criterion():
    crystals, potential = rattled(0, 8), Counting()
    settings = RelaxationSettings(fmax=0.002)
    for b, ours in enumerate(relax(crystals, potential, settings)):
        energy, converged, _, _ = relax_by_ase(crystals, b, potential, settings.fmax)
        assert converged
        assert ours.converged
        assert ours.energy / 4 == pytest.approx(energy / 4, abs=5e-4)


def test_a_converged_crystal_meets_the_criterion_of_a_fresh_frechet_cell_filter():
    crystals, potential = rattled(1, 6), Counting()
    for b, outcome in enumerate(relax(crystals, potential)):
        atoms = atoms_of(geometry(outcome, crystals[b]), 0)
        atoms.calc = PotentialCalculator(potential)
        forces = FrechetCellFilter(atoms).get_forces()
        assert outcome.converged
        assert np.linalg.norm(forces, axis=1).max() < RelaxationSettings().fmax + 1e-4
        assert np.linalg.norm(forces, axis=1).max() == pytest.approx(outcome.fmax, abs=1e-3)
        assert atoms.get_potential_energy() == pytest.approx(outcome.energy, abs=1e-4)


def test_company_and_order_change_no_outcome_and_batches_stay_full():
    crystals = rattled(2, 20)
    potential = Counting(batch_atoms=16)
    together = relax(crystals, potential)
    alone = [relax(crystals[b], Counting())[0] for b in range(len(crystals))]
    assert [t.energy for t in together] == pytest.approx([a.energy for a in alone], abs=1e-3)
    assert max(potential.batches) == 4
    total = sum(outcome.steps + 1 for outcome in together)
    assert sum(potential.batches) == total
    assert len(potential.batches) < 0.4 * total  # a finished crystal's place is taken at once


def test_identical_crystals_are_relaxed_once():
    one = rattled(3)
    potential = Counting()
    outcomes = relax(Crystals.concatenate([one, rattled(4), one, one]), potential)
    assert outcomes[0] is outcomes[2] is outcomes[3]
    assert sum(potential.batches) == sum(outcomes[b].steps + 1 for b in (0, 1))


def test_a_relaxed_crystal_takes_no_step():
    crystals = rattled(5)
    first = relax(crystals, Counting(), RelaxationSettings(fmax=0.01))[0]
    again = relax(geometry(first, crystals), Counting())[0]
    assert again.steps == 0
    assert again.energy == pytest.approx(first.energy, abs=1e-4)


def test_one_that_needs_more_steps_than_allowed_says_so_with_its_force():
    outcome = relax(rattled(6), Counting(), RelaxationSettings(max_steps=2))[0]
    assert not outcome.converged
    assert outcome.steps == 2
    assert outcome.reason == f"not converged in 2 steps: largest force {outcome.fmax:.2g} eV/A"
    assert np.isfinite(outcome.energy)


def spoilt(numbers, value):
    """The toy potential, but an element of these numbers has an energy that is no number."""

    def energies(found, vectors):
        import torch

        return morse(found, vectors) * torch.where(torch.tensor(np.isin(found.atomic_numbers, numbers)), value, 1.0)

    return energies


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_whose_energy_is_not_finite_gets_a_reason_and_touches_no_other(value):
    good = rattled(7, 5)
    bad = crystal([82, 82], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 3.3)
    outcomes = relax(Crystals.concatenate([good, bad]), Counting(spoilt([82], value)))
    assert outcomes[5].reason.startswith("energy or forces are not finite")
    assert not outcomes[5].converged
    assert [o.energy for o in outcomes[:5]] == pytest.approx([o.energy for o in relax(good, Counting())], abs=1e-3)


@pytest.mark.parametrize(
    ("numbers", "coords", "lattice", "reason"),
    [
        ([29] * 5, np.random.default_rng(0).random((5, 3)), np.eye(3) * 1.5, "over-dense: 0.68 A^3 per atom"),
        ([29] * 300, np.random.default_rng(0).random((300, 3)), np.eye(3) * 0.5, "over-dense: 0.00042 A^3 per atom"),
        ([29, 29], [[0, 0, 0], [0, 0, 0]], np.eye(3) * 3.0, "atoms are 0.00 A apart"),
        ([29], [[0, 0, 0]], np.diag([0.3, 10, 10]), "an atom is 0.3 A from its own image"),
        ([29], [[0, 0, 0]], np.eye(3) * 1e5, "it has 1e+15 A^3 per atom"),
        ([29] * 4, np.random.default_rng(0).random((4, 3)), np.diag([800, 1.0, 1.0]), "its cell is 800 A long"),
    ],
)
def test_hostile_crystals_end_with_a_reason_and_a_finite_energy(numbers, coords, lattice, reason):
    bad = crystal(numbers, coords, lattice)
    outcomes = relax(Crystals.concatenate([bad, rattled(8)]), Counting())
    assert outcomes[0].reason == f"{reason} (its energy is that of its atoms 3 A apart)"
    assert np.isfinite(outcomes[0].energy)
    assert not outcomes[0].converged
    assert outcomes[1].converged


def attractive(found, vectors):
    """Pulls atoms together without end."""
    import torch

    lengths = vectors.norm(dim=1)
    pairs = -((1 - lengths / 6.0).clamp(min=0) ** 2) * 4
    return torch.zeros(len(found.crystal_of_atom)).index_add(0, torch.from_numpy(found.centres), pairs)


def test_a_collapsing_crystal_is_set_aside_with_the_energy_that_it_began_with():
    start = rattled(9)
    potential = Counting(attractive)
    outcome = relax(start, potential)[0]
    assert not outcome.converged
    assert "volume changed by a factor of" in outcome.reason
    assert outcome.energy == pytest.approx(potential.evaluate(start).energies[0], abs=1e-4)


def repulsive(found, vectors):
    return -attractive(found, vectors) * 3


def test_an_exploding_crystal_is_set_aside():
    outcome = relax(rattled(10), Counting(repulsive))[0]
    assert not outcome.converged or outcome.reason is None
    assert np.isfinite(outcome.energy)
    assert np.abs(np.log(np.linalg.det(outcome.lattice) / rattled(10).volumes[0])) < np.log(5) + 1e-6


def test_atoms_that_end_on_each_other_are_no_relaxed_crystal():
    def to_one_place(found, vectors):  # a minimum at distance 0.3 A: a spurious basin
        import torch

        lengths = vectors.norm(dim=1)
        pairs = torch.where(lengths < 2.0, 5 * (lengths - 0.3) ** 2, torch.zeros_like(lengths)) / 2
        return torch.zeros(len(found.crystal_of_atom)).index_add(0, torch.from_numpy(found.centres), pairs)

    outcome = relax(crystal([11, 17], [[0, 0, 0], [0.1, 0, 0]], np.eye(3) * 6), Counting(to_one_place))[0]
    assert outcome.reason == "atoms are 0.30 A apart"
    assert not outcome.converged


def test_a_potential_that_breaks_down_for_one_batch_is_asked_one_by_one():
    class Fragile(Counting):
        def evaluate(self, crystals, derivatives=True):
            if (crystals.atomic_numbers == 82).any() and derivatives:
                raise RuntimeError("out of memory")
            return super().evaluate(crystals, derivatives)

    bad = crystal([82], [[0, 0, 0]], np.eye(3) * 3)
    outcomes = relax(Crystals.concatenate([rattled(11, 3), bad]), Fragile())
    assert outcomes[3].reason.startswith("cannot be evaluated: out of memory")
    assert all(outcome.converged for outcome in outcomes[:3])


def test_no_crystals_and_a_single_atom_are_relaxed():
    assert relax(Crystals.empty(), Counting()) == []
    outcome = relax(crystal([29], [[0.2, 0.3, 0.4]], (np.ones((3, 3)) - np.eye(3)) * 1.9), Counting())[0]
    assert outcome.converged
    assert outcome.energy < 0


def test_the_minimiser_reaches_the_minimum_of_a_quadratic_in_few_steps_and_takes_back_a_rise():
    rng = np.random.default_rng(0)
    number = 3
    stiff = np.diag(rng.uniform(5, 50, 3 * number))
    minimum = rng.normal(size=3 * number) * 0.1
    minimiser = Minimiser(number)
    position = np.zeros((number, 3))
    for _ in range(25):
        offset = position.ravel() - minimum
        slopes = (stiff @ offset).reshape(-1, 3)
        position, strain = minimiser.step(float(offset @ stiff @ offset) / 2, slopes, np.zeros((3, 3)))
    assert np.abs(position.ravel() - minimum).max() < 1e-3
    assert np.abs(strain).max() < 1e-12
    before, radius = minimiser.best[1], minimiser.radius
    minimiser.step(1e3, np.ones((number, 3)), np.zeros((3, 3)))
    assert minimiser.best[1] is before
    assert minimiser.radius < radius


def test_a_skewed_cell_is_the_same_crystal_and_costs_no_more():
    plain = rattled(12)
    skew = np.array([[1, 0, 0], [37, 1, 0], [-250, 81, 1]])
    coords = plain.frac_coords @ np.linalg.inv(skew)
    skewed = crystal(plain.atomic_numbers, coords, skew @ plain.lattices[0])
    first, second = relax(Crystals.concatenate([plain, skewed]), Counting())
    assert first.energy == pytest.approx(second.energy, abs=1e-3)


def test_a_grid_of_its_atoms_gives_every_crystal_a_finite_energy():
    outcome = unrelaxed(crystal([29] * 8, np.zeros((8, 3)), np.eye(3) * 0.2), Counting(), "over-dense")
    assert np.isfinite(outcome.energy)
    assert not outcome.converged


@pytest.mark.slow
@pytest.mark.needs_potentials
@pytest.mark.needs_data
@pytest.mark.parametrize("number", [60, pytest.param(200, marks=pytest.mark.nightly)])
def test_95_percent_of_real_crystals_end_within_2_mev_of_ase(number):
    potential, settings = load_potential("m3gnet"), RelaxationSettings()
    crystals = load_split("mp20", "test")
    crystals = crystals[np.sort(np.random.default_rng(0).choice(len(crystals), number, replace=False))]
    ours = relax(crystals, potential, settings)
    theirs = [relax_by_ase(crystals, b, potential, settings.fmax)[0] for b in range(len(crystals))]
    differences = np.abs(np.array([o.energy for o in ours]) - theirs) / crystals.num_atoms
    assert (differences < 0.002).mean() >= 0.95
