"""Machine-learned potentials: energies, forces and stresses of a batch of crystals, checked when they are loaded.

Found offline where their files are at hand. Another package adds its own with an entry point in the group
`crysldm_bench.potentials`: a function called with the device ("cpu", "cuda") that gives a `Potential`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tasks.stability.potentials.files import MATGL_FOLDERS, SEVENNET_MODELS, Source, find_source
from tasks.stability.potentials.known_crystals import SelfTestFailed, self_test
from tasks.stability.potentials.potential import EdgePotential, Potential

if TYPE_CHECKING:
    from tasks.stability.potentials.m3gnet import End

DEFAULT_POTENTIAL = "chgnet+sevennet-l3i5"  # a chain; docs/stability.md compares
ENTRY_POINTS = "crysldm_bench.potentials"


def known_potentials() -> tuple[str, ...]:
    """Names of the potentials that can be asked for, those of other packages among them."""
    return (*LOADERS, *(entry.name for entry in entry_points(group=ENTRY_POINTS) if entry.name not in LOADERS))


@functools.lru_cache(maxsize=8)  # a worker scores many chunks with the same one
def load_potential(name: str, device: str = "cpu") -> Potential:
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

    from tasks.stability.potentials.matgl import load_edge_energies

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

    from tasks.stability.potentials.chgnet import CHGNetEnergies

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

    from tasks.stability.potentials.sevennet import SevenNetEnergies

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
