"""matgl's model folders as functions of edges."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tasks.stability.potentials.m3gnet import Edges, End, M3GNetEnergies
from tasks.stability.potentials.tensornet import TensorNetEnergies

if TYPE_CHECKING:
    from tasks.stability.potentials.neighbours import Neighbours

# Atoms of a batch beyond which a CPU gains nothing more; TensorNet holds (E, F, 3, 3) tensors.
BATCH_ATOMS = {"M3GNet": 160, "TensorNet": 40}


def load_edge_energies(
    folder: Path, end: End, device: torch.device
) -> tuple[Callable[[Neighbours, Tensor], Tensor], float, int]:
    """Energies (N,) in eV from edges, the cutoff in A, and the atoms of a good batch.

    ValueError where the folder holds no M3GNet or TensorNet, or one with parts that are not computed here.
    """
    from pymatgen.core import Element

    potential = _load(folder, device)
    model, kind = potential.model, type(potential.model).__name__
    if kind == "M3GNet":
        of_edges: Callable[[Edges], Tensor] = M3GNetEnergies(model, end)
    elif kind == "TensorNet":
        of_edges = TensorNetEnergies(model, end)
    else:
        raise ValueError(f"{folder}: holds a {kind}; only M3GNet and TensorNet can be used")
    if getattr(potential, "calc_repuls", False):
        raise ValueError(f"{folder}: its potential adds a nuclear repulsion, which is not computed here")
    places = np.full(119, -1, dtype=np.int64)
    places[[Element(symbol).Z for symbol in model.element_types]] = np.arange(len(model.element_types))
    scale, shift = float(potential.data_std), float(potential.data_mean)
    if shift != 0:
        raise ValueError(f"{folder}: a mean energy of {shift} eV per crystal; energies are sums over atoms here")
    offsets = potential.element_refs.property_offset.to(device=device, dtype=torch.float64)

    def energies(found: Neighbours, vectors: Tensor) -> Tensor:
        node_types = torch.from_numpy(places[found.atomic_numbers]).to(device)
        edges = Edges(
            torch.from_numpy(found.centres).to(device),
            torch.from_numpy(found.neighbours).to(device),
            vectors,
            node_types,
        )
        of_atoms: Tensor = scale * of_edges(edges) + offsets[node_types]
        return of_atoms

    return energies, float(model.cutoff), BATCH_ATOMS[kind]


def _load(folder: Path, device: torch.device) -> Any:
    import matgl

    with _quiet():
        potential = matgl.load_model(str(folder))
    return potential.to(device).eval().requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of models older than matgl: the self-test judges them."""
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
