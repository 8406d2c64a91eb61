"""Training that starts from weights: close to them, on the same latents, and only where they fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.presets import preset
from models.training.run import INIT_WARMUP_STEPS
from models.weights import find_weights, read_weights
from tests.tiny_training import crystals, give_preset, run, tiny_preset


def test_a_run_can_start_from_weights_and_says_so_in_its_card(tiny, tmp_path):
    first = run(tiny, tmp_path / "first")
    second = run(tiny, tmp_path / "second", init=first, epochs=1)
    for name in ("first", "second"):
        assert json.loads((tmp_path / name / "run.json").read_text())["seed"] == 0
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in (first, second)]
    assert cards[1]["init"]["sha256"] == cards[0]["sha256"]
    assert cards[1]["stages"][0]["name"] == cards[0]["stages"][-1]["name"]
    before, after = load_file(first), load_file(second)
    if tiny == "crysldm":
        frozen = [name for name in before if not name.startswith("network.")]
        assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert cards[1]["stages"][0]["warmup_steps"] == INIT_WARMUP_STEPS
    # Close to the start after one epoch, which fresh weights are not.
    assert all(torch.allclose(before[name], after[name], atol=0.01) for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_losses_may_weigh_otherwise_from_then_on(tiny, tmp_path, monkeypatch):
    if tiny in ("composition-first", "crystal-draft"):
        pytest.skip("its losses have no weights")
    first = run(tiny, tmp_path / "first")
    chosen = preset(tiny, "perov5", "cpu")
    heavier = tuple(2 * weight for weight in chosen.config.loss_weights)
    other = replace(chosen, config=replace(chosen.config, loss_weights=heavier))
    give_preset(monkeypatch, tiny, other)
    second = run(tiny, tmp_path / "second", init=first, epochs=1)
    assert read_weights(second)[1]["config"]["loss_weights"] == list(heavier)


def test_weights_of_another_network_are_no_start(tiny, tmp_path):
    other = "diffcsp" if tiny == "crysldm" else "crysldm"
    with pytest.raises(ValueError, match=r"not the network of this preset \(differs in "):
        run(tiny, tmp_path / "run", init=find_weights(other, "perov5", "cpu"))


def test_a_weak_network_is_trained_on_the_latents_of_the_other(tiny, tmp_path, monkeypatch):
    if tiny not in ("crysldm", "diffcsp"):
        pytest.skip("its sampler takes no guidance")
    first = run(tiny, tmp_path / "first")
    chosen = preset(tiny, "perov5", "cpu")
    narrow = replace(chosen, config=replace(chosen.config, network=replace(chosen.config.network, hidden_dim=4)))
    give_preset(monkeypatch, tiny, narrow)
    with pytest.raises(ValueError, match=r"differs in network"):
        run(tiny, tmp_path / "not weak", init=first)
    weak = run(tiny, tmp_path / "weak", init=first, preset="cpu-weak")
    before, after = read_weights(first)[0], read_weights(weak)[0]
    shared = [key for key in before if not key.startswith("network.")]
    assert all(torch.equal(before[key], after[key]) for key in shared)
    assert bool(shared) == (tiny == "crysldm")
    assert after["network.trunk.layers.0.node_out.weight"].shape == (4, 4)


def test_a_run_that_began_with_weights_needs_them_to_go_on(tmp_path, monkeypatch, tiny):
    if tiny != "crysldm":
        pytest.skip("it has one stage alone")
    first = run(tiny, tmp_path / "first")
    run(tiny, tmp_path / "run", init=first, epochs=1)
    with pytest.raises(ValueError, match="--init"):
        run(tiny, tmp_path / "run", resume=True, epochs=2)
    run(tiny, tmp_path / "run", resume=True, epochs=2, init=first)


@pytest.mark.parametrize("name", ["crysldm", "diffcsp"])
def test_a_posterior_head_is_put_on_weights_without_one_and_goes_on(name, tmp_path, monkeypatch, tiny_data):
    for model in (name, f"{name}-posterior"):
        give_preset(monkeypatch, model, tiny_preset(model))
    first = run(name, tmp_path / "first")
    second = run(f"{name}-posterior", tmp_path / "second", init=first, epochs=1)
    before, after = read_weights(first)[0], read_weights(second)[0]
    added = {key for key in after if key.startswith("network.head.")}
    assert before.keys() == after.keys() - added
    assert all(torch.isfinite(after[key]).all() for key in added) and after["network.head.types_out.weight"].any()
    counts = np.bincount(crystals(0).atomic_numbers, minlength=101)[1:] + 0.5
    expected = torch.from_numpy(np.log(counts / counts.sum())).float()
    torch.testing.assert_close(after["network.head.log_frequencies"], expected)
    # Stopped and continued, or from weights that have the head already: the closed form is that of the data still.
    gone_on = run(f"{name}-posterior", tmp_path / "second", init=first, epochs=2, resume=True)
    third = run(f"{name}-posterior", tmp_path / "third", init=gone_on, epochs=1)
    for later in (gone_on, third):
        found = read_weights(later)[0]
        fixed = [f"network.head.{key}" for key in ("codes", "log_frequencies", "variance")]
        assert all(torch.equal(found[key], after[key]) for key in fixed)
    with pytest.raises(ValueError, match="differs in network"):
        run(name, tmp_path / "back", init=third)
