"""Machine-learned potentials: energies, forces and stresses of a batch of crystals, checked when they are loaded.

Found offline where their files are at hand. Another package adds its own with an entry point in the group
`crysldm_bench.potentials`: a function called with the device ("cpu", "cuda") that gives a `Potential`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bench.crystals import Crystals
from tasks.stability.potential_files import MATGL_FOLDERS, SEVENNET_MODELS, Source, find_source
from tasks.stability.self_test import SelfTestFailed, self_test

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.stability.m3gnet import End
    from tasks.stability.neighbours import Neighbours

FloatArray = NDArray[np.float64]

DEFAULT_POTENTIAL = "chgnet"
ENTRY_POINTS = "crysldm_bench.potentials"
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

    batch_atoms: atoms up to which one call gets cheaper per atom; a single crystal may have more.
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

        from tasks.stability.neighbours import find_neighbours

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


def _sums(rows: FloatArray, places: NDArray[np.int64], length: int) -> FloatArray:
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


def known_potentials() -> tuple[str, ...]:
    """Names of the potentials that can be asked for, those of other packages among them."""
    return (*LOADERS, *(entry.name for entry in entry_points(group=ENTRY_POINTS) if entry.name not in LOADERS))


@functools.lru_cache(maxsize=4)  # a worker scores many chunks with the same one
def load_potential(name: str = DEFAULT_POTENTIAL, device: str = "cpu") -> Potential:
    """The potential of that name, or of matgl's model folder at that path, self-tested.

    ValueError where the name is unknown, its files are nowhere, or it fails the self-test.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name and name not in LOADERS:
            potential = entry.load()(device)
            if not isinstance(potential, Potential):
                raise ValueError(f"{entry.value} gave {type(potential).__name__}, which is no Potential")
            self_test(potential)
            return potential
    source = find_source(name)
    return LOADERS[source.kind](source, device)


def potential_protocol(name: str) -> dict[str, Any]:
    """What `Potential.protocol` says of one of ours, from its files alone: without importing torch."""
    if name in known_potentials() and name not in LOADERS:
        return dict(load_potential(name).protocol())
    return find_source(name).description()


def _load_matgl(source: Source, device: str) -> Potential:
    """Tries both ends at which messages may be summed; the self-test says which one the weights were trained with."""
    import torch

    from tasks.stability.matgl_models import load_edge_energies

    failures = []
    ends: tuple[End, ...] = ("destination", "source")
    for end in ends:
        energies, cutoff, batch_atoms = load_edge_energies(source.path, end, torch.device(device))
        potential = EdgePotential(source.name, cutoff, energies, batch_atoms, device, source.description())
        try:
            self_test(potential)
        except SelfTestFailed as error:
            failures.append(f"messages summed at the {end}: {error}")
        else:
            return potential
    raise ValueError(
        f"the potential {source.name} ({source.path}) gives wrong energies or pressures by either convention of matgl "
        f"({'; '.join(failures)}); use another one"
    )


def _load_chgnet(source: Source, device: str) -> Potential:
    import contextlib
    import io

    from chgnet.model.model import CHGNet

    from tasks.stability.chgnet import CHGNetEnergies

    with contextlib.redirect_stdout(io.StringIO()):  # it announces itself
        model = CHGNet.load(model_name=source.version, use_device=device, verbose=False)
    model.eval().requires_grad_(False)
    energies = CHGNetEnergies(model)
    potential = EdgePotential(source.name, energies.atom_cutoff, energies, 64, device, source.description())
    self_test(potential)
    return potential


def _load_sevennet(source: Source, device: str) -> Potential:
    import warnings

    from sevenn.util import load_checkpoint

    from tasks.stability.sevennet import SevenNetEnergies

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that faster kernels for GPUs are not installed
        checkpoint = load_checkpoint(source.version)
        model = checkpoint.build_model().to(device).eval().requires_grad_(False)
    cutoff = float(checkpoint.config["cutoff"])
    potential = EdgePotential(source.name, cutoff, SevenNetEnergies(model), 40, device, source.description())
    self_test(potential)
    return potential


Loader = Callable[[Source, str], Potential]
LOADERS: Mapping[str, Loader] = MappingProxyType(
    {
        "chgnet": _load_chgnet,
        **dict.fromkeys(MATGL_FOLDERS, _load_matgl),
        **dict.fromkeys(SEVENNET_MODELS, _load_sevennet),
    }
)
