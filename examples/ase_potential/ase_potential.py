"""A potential of your own: any calculator of ASE with energies, forces and stresses; here CHGNet's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from bench.crystals import Crystals
from tasks.stability.potentials import Evaluation

ELEMENTS = frozenset(range(1, 95)) - frozenset(range(84, 89))


class CalculatorPotential:
    """calculator: gives the energy of the cell in eV. name: that of the entry point. description: its weights."""

    elements = ELEMENTS  # a crystal with another one is not stable, and its row says which element it was
    batch_atoms = 1  # a calculator takes one crystal at a time

    def __init__(self, calculator: Calculator, name: str, description: Mapping[str, Any]) -> None:
        self.calculator, self.name, self._description = calculator, name, dict(description)

    def protocol(self) -> Mapping[str, Any]:
        """What its numbers depend on. `sha256` ties a hull to the weights that it was computed with."""
        return {"name": self.name, **self._description}

    def evaluate(self, crystals: Crystals, derivatives: bool = True) -> Evaluation:
        """Energies (B,) in eV; forces (N, 3) in eV/A and stresses (B, 3, 3) in eV/A^3 with ASE's sign."""
        energies, forces, stresses = [], [np.zeros((0, 3))], [np.zeros((0, 3, 3))]
        for b in range(len(crystals)):
            atomic_numbers, frac_coords, lattice = crystals.arrays(b)
            atoms = Atoms(atomic_numbers, scaled_positions=frac_coords, cell=lattice, pbc=True)
            atoms.calc = self.calculator
            energies.append(atoms.get_potential_energy())
            if derivatives:
                forces.append(atoms.get_forces())
                stresses.append(atoms.get_stress(voigt=False)[None])
        return Evaluation(np.array(energies, dtype=float), np.concatenate(forces), np.concatenate(stresses))


def chgnet_by_ase(device: str) -> CalculatorPotential:
    """What the entry point names: called with the device ("cpu", "cuda")."""
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    model = CHGNet.load(use_device=device, verbose=False)
    weights = {name: hashlib.sha256(w.cpu().numpy().tobytes()).hexdigest() for name, w in model.state_dict().items()}
    digest = hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()
    description = {"weights": model.version, "sha256": digest, "package": f"chgnet {version('chgnet')}"}
    return CalculatorPotential(CHGNetCalculator(model, use_device=device), "chgnetase", description)
