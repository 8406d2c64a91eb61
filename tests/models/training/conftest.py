"""Every test of a `tiny` model is run with each model that can be trained."""

from types import SimpleNamespace

import numpy as np
import pytest

import models.training.card
import models.training.run
from tests.tiny_training import crystals, give_preset, tiny_preset


@pytest.fixture
def tiny_data(monkeypatch):
    """Ten random crystals in the place of a data set."""
    card = SimpleNamespace(num_atoms_probabilities=np.array([0, 0, 0.5, 0.5]))
    for module, name, found in (
        (models.training.run, "load_split", lambda dataset, split: crystals({"train": 0, "val": 1}[split])),
        (models.training.run, "reference_card", lambda dataset: card),
        (models.training.card, "split_hash", lambda dataset, split: f"hash of {split}"),
    ):
        monkeypatch.setattr(module, name, found)


@pytest.fixture(params=["diffcsp", "crysldm", "cdvae", "diffcsp-csp", "composition-first", "crystal-draft"])
def tiny(request, monkeypatch, tiny_data):
    """The name of a model whose preset is tiny."""
    give_preset(monkeypatch, request.param, tiny_preset(request.param))
    return request.param
