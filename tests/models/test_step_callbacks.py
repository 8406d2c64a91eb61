"""Step callbacks: what they are told is the trajectory, and they change nothing."""

import numpy as np
import pytest
import torch

from models.baselines.cdvae.generator import cdvae
from models.baselines.diffcsp.generator import diffcsp, diffcsp_fast
from models.crysldm.generator import crysldm

FACTORIES = {"crysldm": crysldm, "diffcsp": diffcsp, "diffcsp-fast": diffcsp_fast, "cdvae": cdvae}


@pytest.fixture(scope="module", params=list(FACTORIES))
def told(request):
    """(name, the crystals sampled while somebody listens, those of the same seed without, what was told)."""
    generator = FACTORIES[request.param]("perov5", steps=3)
    generator.load("cpu")
    states = []
    batch = generator.sample(num_crystals=4, seed=2, callback=states.append)
    return request.param, batch, generator.sample(num_crystals=4, seed=2), states


def test_listening_changes_no_crystal(told):
    _, listened, alone, _ = told
    assert listened.crystals == alone.crystals
    assert (listened.network_evaluations == alone.network_evaluations).all()


def test_it_is_told_of_every_step_once(told):
    assert [(state["step"], state["steps"]) for state in told[3]] == [(1, 3), (2, 3), (3, 3)]


def test_the_last_coordinates_are_those_of_the_crystals(told):
    name, batch, _, states = told
    last = states[-1]["x"].reshape(-1, 3).double().numpy()
    assert np.allclose(last, batch.crystals.frac_coords)
    if name != "crysldm":
        assert np.allclose(states[-1]["lattices"].double().numpy(), batch.crystals.lattices)
    if name == "cdvae":
        assert states[-1]["atomic_numbers"].tolist() == batch.crystals.atomic_numbers.tolist()
    if name.startswith("diffcsp"):
        assert (states[-1]["types"].argmax(-1) + 1).flatten().tolist() == batch.crystals.atomic_numbers.tolist()


def test_what_was_told_stays_as_it_was(told):
    x = [state["x"] for state in told[3]]
    assert not torch.equal(x[0], x[1]) and not torch.equal(x[1], x[2])


def test_latents_decode_to_crystals_on_the_way(told):
    name, batch, _, states = told
    if name != "crysldm":
        pytest.skip("it has no latents")
    generator = crysldm("perov5", steps=3)
    generator.load("cpu")
    decoded = [generator.model.decode(state["z_h"], state["x"], state["z_lattice"]) for state in states]
    assert decoded[-1].atomic_numbers.flatten().tolist() == batch.crystals.atomic_numbers.tolist()
    assert [len(crystals) for crystals in decoded] == [4, 4, 4]


def test_the_crystals_of_a_bucket_are_named():
    generator = crysldm("mp20", steps=2)
    generator.load("cpu")
    states = []
    generator.sample(num_crystals=6, seed=0, callback=states.append)
    first = [state["indices"] for state in states if state["step"] == 1]
    assert sorted(np.concatenate(first).tolist()) == list(range(6))
    assert all(len(state["indices"]) == len(state["x"]) for state in states)
