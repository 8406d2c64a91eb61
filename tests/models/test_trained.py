"""Weights that a user trained: sampled by the model that their card names, under the name that the user gave."""

import json
import shutil

import pytest

from models.baselines.diffcsp.generator import diffcsp
from models.crysldm.generator import crysldm
from models.trained import trained
from models.weights import find_weights


@pytest.fixture(params=["crysldm", "diffcsp", "cdvae"])
def mine(request, tmp_path):
    """(model, a copy of its shipped weights elsewhere)."""
    shipped, path = find_weights(request.param, "perov5", "cpu"), tmp_path / "weights.safetensors"
    for suffix in (".safetensors", ".json"):
        shutil.copyfile(shipped.with_suffix(suffix), path.with_suffix(suffix))
    return request.param, path


def test_the_card_says_which_model_samples(mine):
    model, path = mine
    generator = trained(path, "mine@4", "perov5", steps=4)
    assert generator.name == "mine@4"
    assert generator.card["model"] == model
    batch = generator.sample(num_crystals=2, seed=0)
    assert batch.steps == 4
    assert batch.requested == 2


def test_weights_of_another_data_set_are_refused(mine):
    with pytest.raises(ValueError, match=r"weights\.safetensors: trained on perov5, which --dataset mp20 is not"):
        trained(mine[1], "mine", "mp20")


def test_a_card_of_an_unknown_model_is_one_clear_line(mine):
    card_path = mine[1].with_suffix(".json")
    card_path.write_text(json.dumps({**json.loads(card_path.read_text()), "model": "gan"}))
    with pytest.raises(ValueError, match=r"names the model 'gan', which is none of crysldm, .*cdvae") as caught:
        trained(mine[1], "mine", "perov5")
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(mine):
    other = diffcsp if mine[0] == "crysldm" else crysldm
    with pytest.raises(ValueError, match=rf"weights\.safetensors: weights of {mine[0]}, not of "):
        other("perov5", weights=mine[1])
