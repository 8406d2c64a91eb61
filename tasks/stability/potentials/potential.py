"""What a machine-learned potential is: energies, forces and stresses of a batch of crystals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystals import Crystals

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.stability.potentials.neighbours import Neighbours


# Of the Materials Project's relaxations, on which all of these were trained: 1 to 94 but Po, At, Rn, Fr, Ra.
MP_ELEMENTS = frozenset(range(1, 95)) - frozenset(range(84, 89))


@dataclass(frozen=True)
class Evaluation:
    """What a potential says of B crystals with N atoms in all.

    energies: (B,) eV per cell. forces: (N, 3) eV/A. stresses: (B, 3, 3) eV/A^3, positive where the cell wants to shrink
    (dE/d strain over volume, as ASE has it). The last two are empty where they were not asked for. A crystal for which
    the potential breaks down has values that are not finite, and no other crystal is touched.
    """

    energies: FloatArray
    forces: FloatArray
    stresses: FloatArray


@runtime_checkable
class Potential(Protocol):
    """A potential energy of crystals. elements: atomic numbers that it knows.

    batch_atoms: atoms up to which one call gets cheaper per atom; a single crystal may have more. It may also have
    `cutoff`, A, beyond which atoms do not feel each other directly; without it, 6 is taken.
    """

    name: str
    elements: frozenset[int]
    batch_atoms: int

    def protocol(self) -> Mapping[str, Any]:
        """What its numbers depend on, as plain JSON: version, checksum of the weights."""

    def evaluate(self, crystals: Crystals, derivatives: bool = True) -> Evaluation:
        """Energies, and with `derivatives` forces and stresses. ValueError for an element or a density out of reach."""


class EdgePotential:
    """A potential that is a function of edges: energies (N,) in eV of atoms, from neighbours and vectors (E, 3)."""

    def __init__(
        self,
        name: str,
        cutoff: float,
        energies: Callable[[Neighbours, Tensor], Tensor],
        batch_atoms: int,
        device: str,
        description: Mapping[str, Any],
    ) -> None:
        self.name, self.cutoff, self.batch_atoms, self.device = name, cutoff, batch_atoms, device
        self.elements = MP_ELEMENTS
        self._energies, self._description = energies, dict(description)

    def protocol(self) -> Mapping[str, Any]:
        """Version, checksum and convention."""
        return {"name": self.name, **self._description}

    def evaluate(self, crystals: Crystals, derivatives: bool = True) -> Evaluation:
        """Derivatives of the energy by the vectors of edges give forces and virial at once."""
        import torch

        from tasks.stability.potentials.neighbours import find_neighbours

        require_elements(self, crystals)
        if len(crystals) == 0:
            return Evaluation(np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3, 3)))
        found = find_neighbours(crystals, self.cutoff)
        vectors = torch.tensor(found.vectors, dtype=torch.float32, device=self.device, requires_grad=derivatives)
        with torch.set_grad_enabled(derivatives):
            of_atoms = self._energies(found, vectors)
        energies = _sums(_to_numpy(of_atoms)[:, None], found.crystal_of_atom, len(crystals))[:, 0]
        if not derivatives:
            return Evaluation(energies, np.zeros((0, 3)), np.zeros((0, 3, 3)))
        slopes = _to_numpy(torch.autograd.grad(of_atoms.sum(), vectors)[0])  # (E, 3) dE / d r_ij
        num_atoms = len(found.crystal_of_atom)
        with np.errstate(invalid="ignore"):  # of a crystal for which the potential breaks down
            products = (found.vectors[:, :, None] * slopes[:, None, :]).reshape(-1, 9)
        forces = _sums(slopes, found.centres, num_atoms) - _sums(slopes, found.neighbours, num_atoms)
        virials = _sums(products, found.crystal_of_edge, len(crystals)).reshape(-1, 3, 3)
        virials = (virials + np.swapaxes(virials, 1, 2)) / 2  # rounding alone makes it asymmetric
        return Evaluation(energies, forces, virials / crystals.volumes[:, None, None])


def _sums(rows: FloatArray, places: IntArray, length: int) -> FloatArray:
    """(length, K) sums of the rows (n, K) that go to each place."""
    columns = [np.bincount(places, column, minlength=length) for column in rows.T]
    return np.stack(columns, axis=1).astype(np.float64)


def _to_numpy(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.detach().double().cpu().numpy())


def require_elements(potential: Potential, crystals: Crystals) -> None:
    """ValueError naming an element that the potential does not know."""
    unknown = set(np.unique(crystals.atomic_numbers).tolist()) - potential.elements
    if unknown:
        from pymatgen.core import Element

        names = ", ".join(str(Element.from_Z(z)) for z in sorted(unknown))
        raise ValueError(f"the potential {potential.name} does not know {names}")
