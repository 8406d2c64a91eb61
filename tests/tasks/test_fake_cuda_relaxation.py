"""A step of relaxation on a CUDA device that is not there: a potential's energies, forces and stresses, and the step.

Three crystals of one atom: what shapes are made up on the fake device is then what they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tasks.stability.potentials import matgl
from tasks.stability.potentials.chgnet import CHGNetEnergies
from tasks.stability.potentials.files import find_source
from tasks.stability.potentials.potential import EdgePotential
from tasks.stability.relaxation import Flight, RelaxationSettings, evaluate_apart
from tests.fake_cuda import DEVICE, FOUND, Record, fake_cuda, on_fake_cuda
from tests.toy_potential import crystal

pytestmark = pytest.mark.slow

POTENTIALS = "tasks/stability/potentials"
LAUNCHES = {"chgnet": 740, "m3gnet": 880}
# Values and slopes come back once each, after everything was started. Before, M3GNet's edges that make angles are
# counted.
WAITS = {
    "chgnet": {f"{POTENTIALS}/potential.py:_to_numpy": 2},
    "m3gnet": {f"{POTENTIALS}/potential.py:_to_numpy": 2, f"{POTENTIALS}/m3gnet.py:_angular": 1},
}
# The graph, which NumPy makes.
COPIES = {
    "chgnet": {
        f"{POTENTIALS}/potential.py:evaluate": 1,
        f"{POTENTIALS}/chgnet.py:__call__": 1,
        f"{POTENTIALS}/chgnet.py:<genexpr>": 9,
    },
    "m3gnet": {f"{POTENTIALS}/potential.py:evaluate": 1, f"{POTENTIALS}/matgl.py:energies": 3},
}


def loaded(name: str) -> Any:
    """The model as its package has it, on the CPU: the self-test of ours would find made up energies on the device."""
    if name == "m3gnet":
        return matgl._load(find_source(name).path, torch.device("cpu"))
    from chgnet.model.model import CHGNet

    model = CHGNet.load(model_name=find_source(name).version, use_device="cpu", verbose=False)
    return model.eval().requires_grad_(False)


def on_the_device(name: str, model: Any, monkeypatch: pytest.MonkeyPatch) -> EdgePotential:
    """The potential of a loaded model. To be called within `fake_cuda`."""
    if name == "chgnet":
        of_atoms = CHGNetEnergies(on_fake_cuda(model))
        return EdgePotential(name, of_atoms.atom_cutoff, of_atoms, 64, str(DEVICE), {})
    on_fake_cuda(model.model)  # not its scale and offset, which are read as numbers when it is loaded
    monkeypatch.setattr(matgl, "_load", lambda folder, device: model)
    energies, cutoff, batch_atoms = matgl.load_edge_energies(find_source(name).path, "destination", DEVICE)
    return EdgePotential(name, cutoff, energies, batch_atoms, str(DEVICE), {})


@pytest.mark.parametrize("name", ["chgnet", pytest.param("m3gnet", marks=pytest.mark.needs_potentials)])
def test_a_step_of_a_batch_waits_for_its_values_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = crystal([11], [[0, 0, 0]], 3.2 * np.eye(3))
    model = loaded(name)
    with fake_cuda() as record:
        potential = on_the_device(name, model, monkeypatch)
        flights = [Flight(k, start, RelaxationSettings(), potential.cutoff) for k in range(FOUND)]
        for _ in range(2):
            for noted in (record.launches, record.waits, record.copies):
                noted.clear()
            found = evaluate_apart(potential, [flight.crystal for flight in flights])
            evaluated = Record(record.launches.copy(), record.waits.copy(), record.copies.copy())
            assert [flight.advance(part) for flight, part in zip(flights, found, strict=True)] == [None] * FOUND
    assert flights[0].steps == 2
    assert record == evaluated  # the minimiser is NumPy's
    assert dict(evaluated.waits) == WAITS[name]
    assert dict(evaluated.copies) == COPIES[name]
    assert 0.5 * LAUNCHES[name] < evaluated.num_launches <= LAUNCHES[name]
