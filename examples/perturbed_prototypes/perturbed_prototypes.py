"""Crystals by random perturbation: known prototypes with other elements, strained cells and shaken atoms."""

import numpy as np

from bench.crystals import filter_crystals
from bench.interfaces import SampleBatch

# Fractional coordinates, and for each atom which of the drawn elements it is.
PROTOTYPES = {
    "rock salt": ([[0, 0, 0], [0.5, 0.5, 0.5]], [0, 1], 3.2),
    "perovskite": ([[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], [0, 1, 2, 2, 2], 4.0),
}
SITES = ([11, 12, 19, 20, 38, 56], [22, 25, 26, 40, 50], [8, 9, 16, 17])  # Z of large cations, small ones, anions


class PerturbedPrototypes:
    """Perovskites or rock salts of random elements, strained and shaken.

    strain: of the cell. shake: of each atom, in fractions of the cell. Both are standard deviations.
    """

    name = "perturbed-prototypes"
    batch_size = 500

    def __init__(self, dataset: str = "perov5", strain: float = 0.05, shake: float = 0.02) -> None:
        self.prototype = PROTOTYPES["perovskite" if dataset == "perov5" else "rock salt"]
        self.strain, self.shake = strain, shake
        self.card = {"strain": strain, "shake": shake}  # a run does not go on with other settings

    def load(self, device: str) -> None:
        """Nothing to read; a network would load its weights and move them to the device here."""

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """That many crystals; steps: None, as nothing diffuses."""
        rng = np.random.default_rng(seed)  # never np.random.seed: the same seed must give the same batch anywhere
        coords, kinds, length = self.prototype
        elements = np.stack([rng.choice(choices, num_crystals) for choices in SITES], axis=1)  # (B, 3)
        if max(kinds) == 1:
            elements = elements[:, [0, 2]]  # a cation and an anion
        strain = np.eye(3) + self.strain * rng.normal(size=(num_crystals, 3, 3))
        found = filter_crystals(  # sets crystals aside that cannot be, with a reason
            num_atoms=np.full(num_crystals, len(kinds)),
            atomic_numbers=elements[:, kinds].ravel(),
            frac_coords=np.array(coords) + self.shake * rng.normal(size=(num_crystals, len(kinds), 3)),
            lattices=length * strain,  # Angstrom, rows are lattice vectors
        )
        return SampleBatch(found.crystals, None, network_evaluations=np.zeros(num_crystals), reasons=found.reasons)
