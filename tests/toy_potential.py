"""Crystals and a pair potential whose relaxations take milliseconds."""

import numpy as np

from bench.crystals import Crystals
from tasks.stability.potentials import EdgePotential

CUTOFF = 6.0


def morse(found, vectors):
    """(N,) half the Morse energies of an atom's pairs, depth 0.4 eV at 2.6 A, smoothly cut off."""
    lengths = vectors.norm(dim=1)
    wall = (1 - (lengths / CUTOFF) ** 2).clamp(min=0) ** 3
    stretch = 1 - (-1.5 * (lengths - 2.6)).exp()
    energies = 0.2 * (stretch**2 - 1) * wall
    import torch

    return torch.zeros(len(found.crystal_of_atom)).index_add(0, torch.from_numpy(found.centres), energies)


class Counting(EdgePotential):
    """Remembers the sizes of the batches it was asked for."""

    def __init__(self, energies=morse, batch_atoms=40, name="toy"):
        super().__init__(name, CUTOFF, energies, batch_atoms, "cpu", {"weights": "none", "sha256": f"of {name}"})
        self.batches = []

    def evaluate(self, crystals, derivatives=True):
        self.batches.append(len(crystals))
        return super().evaluate(crystals, derivatives)


def crystal(numbers, frac_coords, lattice):
    return Crystals([len(numbers)], numbers, np.asarray(frac_coords, float), np.asarray(lattice, float)[None])


def rattled(seed, number=1, atoms=4):
    """Crystals of face-centred cubic kind, about 2.7 A between atoms, strained and rattled."""
    rng = np.random.default_rng(seed)
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[:atoms]
    parts = []
    for _ in range(number):
        strain = rng.normal(size=(3, 3)) * 0.03
        lattice = 3.8 * (np.eye(3) + (strain + strain.T) / 2)
        parts.append(crystal(rng.integers(11, 31, atoms), sites + rng.normal(size=(atoms, 3)) * 0.02, lattice))
    return Crystals.concatenate(parts)
