"""A model that only the registry and the presets name is trained, goes on, and is sampled from."""

from datetime import timedelta

import numpy as np
import pytest

from bench import model_specs, registry
from models.presets import PRESETS
from models.training import checkpoints
from models.training.log import read_log
from models.weights import read_weights
from tests.tiny_training import Clock, crystals, run
from tests.toy_model import toy_preset


@pytest.fixture
def toy(monkeypatch, tiny_data):
    """The two entries that make it known."""
    monkeypatch.setitem(PRESETS, "toy", toy_preset)
    generators = {**registry.PLUGINS["generator"], "toy": "tests.toy_model:ToyGenerator"}
    monkeypatch.setattr(registry, "PLUGINS", {**registry.PLUGINS, "generator": generators})


def test_it_is_trained_and_its_weights_are_sampled_from(toy, tmp_path):
    weights = run("toy", tmp_path / "run", score=lambda sampled: {"edge": float(sampled.lattices[0, 0, 0])})
    (spec,) = model_specs.parse_models(f"mine={weights}")
    generator = model_specs.build_generator(spec, "perov5", "cpu")
    generator.load("cpu")
    batch = generator.sample(num_crystals=3, seed=0)
    data = crystals(0)
    edges = (np.abs(np.linalg.det(data.lattices)) / data.num_atoms) ** (1 / 3)
    assert generator.name == "mine"
    assert batch.crystals.lattices[0, 0, 0] == pytest.approx(edges.mean(), abs=0.1)
    assert read_weights(weights)[0]["crystals_seen"] == len(data)
    assert read_log(tmp_path / "run", "toy")["train_loss"].dropna().iloc[-1] < 0.1


def test_it_stops_and_goes_on_like_the_others(toy, tmp_path, monkeypatch):
    whole = read_weights(run("toy", tmp_path / "whole"))[0]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "now", Clock())
        assert not read_weights(run("toy", tmp_path / "parts", max_time=timedelta(seconds=9)))[1]["finished"]
    parts = read_weights(run("toy", tmp_path / "parts", resume=True))[0]
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_it_can_start_from_weights(toy, tmp_path):
    first = run("toy", tmp_path / "first")
    second = run("toy", tmp_path / "second", init=first, epochs=1)
    assert read_weights(second)[0]["edge"] == pytest.approx(float(read_weights(first)[0]["edge"]), abs=0.1)


def test_whoever_asks_for_an_unknown_one_hears_of_it(toy, tmp_path):
    with pytest.raises(
        ValueError,
        match="known: crysldm, diffcsp, crysldm-posterior, .*composition-first, crystal-draft, toy",
    ):
        run("gan", tmp_path / "run")
