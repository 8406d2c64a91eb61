"""SevenNet-0 on a batch of crystals: the loaded model of the `sevenn` package, up to the energies of atoms.

Park et al. 2024, doi:10.1021/acs.jctc.4c00190.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.arrays import IntArray
from tasks.stability.potentials.neighbours import Neighbours


class SevenNetEnergies:
    """(N,) energies of atoms in eV. model: sevenn's AtomGraphSequential in evaluation mode.

    ValueError where the model needs to be told the level of theory.
    """

    def __init__(self, model: Any) -> None:
        if model.modal_map:
            raise ValueError("this SevenNet was trained on several levels of theory")
        self.model = model
        model.set_is_batch_data(True)

    def __call__(self, found: Neighbours, vectors: Tensor) -> Tensor:
        """vectors: (E, 3) those of `found` on the device, the leaf of the derivatives."""
        import sevenn._keys as keys

        def on_device(array: IntArray) -> Tensor:
            return torch.tensor(array, device=vectors.device)

        counts = np.bincount(found.crystal_of_atom, minlength=found.num_crystals)
        data = {
            keys.ATOMIC_NUMBERS: on_device(found.atomic_numbers),
            keys.EDGE_IDX: on_device(np.stack([found.centres, found.neighbours])),
            keys.EDGE_VEC: vectors,
            keys.NUM_ATOMS: on_device(counts),
            keys.BATCH: on_device(found.crystal_of_atom),
        }
        types = self.model._atomic_numbers_to_onehot(data[keys.ATOMIC_NUMBERS])
        data[keys.NODE_FEATURE] = types
        for module in self.model:
            data = module(data)
            if keys.ATOMIC_ENERGY in data:
                break
        energies: Tensor = data[keys.ATOMIC_ENERGY].view(-1)
        return energies
