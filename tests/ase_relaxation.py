"""Relaxation of one crystal at a time by ASE: the oracle of ours."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from ase.stress import full_3x3_to_voigt_6_stress

from bench.crystals import Crystals


def crystals_of(atoms):
    return Crystals([len(atoms)], atoms.numbers, atoms.get_scaled_positions(wrap=False), np.asarray(atoms.cell)[None])


def atoms_of(crystals, b):
    numbers, coords, lattice = crystals.arrays(b)
    return Atoms(numbers, scaled_positions=coords, cell=lattice, pbc=True)


class PotentialCalculator(Calculator):
    """One of our potentials as a calculator of ASE."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, potential):
        super().__init__()
        self.potential, self.evaluations = potential, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        found = self.potential.evaluate(crystals_of(self.atoms))
        self.evaluations += 1
        stress = full_3x3_to_voigt_6_stress(found.stresses[0])
        self.results = {"energy": float(found.energies[0]), "forces": found.forces, "stress": stress}


def relax_by_ase(crystals, b, potential, fmax, max_steps=500):
    """Energy in eV, whether converged, evaluations, relaxed crystal."""
    atoms = atoms_of(crystals, b)
    atoms.calc = PotentialCalculator(potential)
    converged = FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=fmax, steps=max_steps)
    return atoms.get_potential_energy(), bool(converged), atoms.calc.evaluations, crystals_of(atoms)
