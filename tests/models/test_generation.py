"""Generators of trained models: repeatable, honest about cost and failures, clear about wrong weights."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from bench.datasets import reference_card
from bench.interfaces import Generator
from models.baselines.diffcsp import generator as diffcsp_generator
from models.baselines.diffcsp.diffusion import DiffCSP
from models.baselines.diffcsp.generator import diffcsp
from models.baselines.diffcsp.sampler import STRIDED_CLAMP
from models.bounds import STRIDED_MIN_VOLUME
from models.crysldm import generator as crysldm_generator
from models.crysldm.autoencoder import AutoencoderConfig
from models.crysldm.generator import crysldm
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.crysldm.sampler import SamplerSettings
from models.cspnet import CSPNetConfig
from models.diffusion import strided_times
from models.generation import sampler_from_card, sampler_to_card
from models.guidance import Guidance, weak_path
from models.presets import Preset, preset
from models.weights import find_weights, read_weights, save_weights

CONFIGS = {
    "crysldm": CrysLDMConfig(
        autoencoder=AutoencoderConfig(latent_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2),
        network=CSPNetConfig(node_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4),
        num_steps=10,
        sampler=SamplerSettings(clamp=(3.5, 4.0)),
    ),
    "diffcsp": dataclasses.replace(
        preset("diffcsp", "mp20", "cpu").config,
        network=CSPNetConfig(hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4),
        num_steps=12,
    ),
}
FACTORIES = {"crysldm": crysldm, "diffcsp": diffcsp}
MODELS = {"crysldm": CrysLDM, "diffcsp": DiffCSP}
MODULES = {"crysldm": crysldm_generator, "diffcsp": diffcsp_generator}


@pytest.fixture(params=["crysldm", "diffcsp"])
def weights(request, tmp_path):
    """(model, weights file) of a tiny untrained network."""
    config = CONFIGS[request.param]
    path = tmp_path / "weights.safetensors"
    save_weights(path, build(request.param, config).state_dict(), {"config": dataclasses.asdict(config)})
    return request.param, path


def build(name, config, seed=0):
    return Preset(MODELS[name], config, ()).build(seed)


def sampler(name, suffix=""):
    """The factory of one of a model's named samplers."""
    return getattr(MODULES[name], f"{name}{suffix}")


def make(weights, suffix="", **options):
    name, path = weights
    generator = sampler(name, suffix)(dataset="mp20", weights=path, **options)
    generator.load("cpu")
    return generator


def test_it_is_a_generator_whose_batches_repeat(weights):
    generator = make(weights)
    assert isinstance(generator, Generator)
    first, again, other = (generator.sample(num_crystals=12, seed=s) for s in (3, 3, 4))
    assert first.requested == 12
    assert first.crystals == again.crystals
    assert first.crystals != other.crystals


def test_sampling_leaves_global_random_state_alone(weights):
    generator = make(weights)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    generator.sample(num_crystals=3, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_evaluations_are_two_a_step(weights):
    batch = make(weights).sample(num_crystals=6, seed=0)
    assert batch.steps == CONFIGS[weights[0]].num_steps
    assert (batch.network_evaluations == 2 * batch.steps).all()
    strided = make(weights, steps=4).sample(num_crystals=6, seed=0)
    assert strided.steps == 4
    assert (strided.network_evaluations == 8).all()


@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("suffix", ["_fast", "_guided"])
def test_the_fast_samplers_spend_one_evaluation_a_step_and_say_so_in_their_names(weights, steps, suffix):
    name, path = weights
    factory = sampler(name, suffix)
    shorter = dataclasses.replace(factory, sampler=dataclasses.replace(factory.sampler, steps=5))
    generator = shorter(dataset="mp20", weights=path, steps=steps)
    generator.load("cpu")
    batch = generator.sample(num_crystals=6, seed=0)
    assert generator.name == f"{name}{suffix.replace('_', '-')}"
    assert batch.steps == (steps or 5)
    assert (batch.network_evaluations == batch.steps).all()


def test_guidance_changes_types_and_not_what_is_drawn(weights):
    fast, guided = (make(weights, suffix, steps=4).sample(num_crystals=20, seed=0) for suffix in ("_fast", "_guided"))
    assert (fast.crystals.num_atoms == guided.crystals.num_atoms).all()
    assert (fast.crystals.atomic_numbers != guided.crystals.atomic_numbers).any()


@pytest.mark.parametrize("clamp", [None, (7.0, 2.0)])
def test_the_fast_samplers_keep_the_bounds_of_the_card_and_diffcsp_gets_some_where_it_has_none(weights, clamp):
    name, path = weights
    config = dataclasses.replace(CONFIGS[name], sampler=dataclasses.replace(CONFIGS[name].sampler, clamp=clamp))
    save_weights(path, read_weights(path)[0], {"config": dataclasses.asdict(config)})
    used = [make(weights, "_fast", steps=s)._model.config.sampler.clamp for s in (4, config.num_steps)]
    assert used == [clamp or (STRIDED_CLAMP if name == "diffcsp" else None), clamp]


def test_few_steps_keep_cells_from_flattening_and_the_papers_samplers_are_left_alone(weights):
    def bound(suffix, steps=None):
        return make(weights, suffix, steps=steps)._model.config.sampler.min_volume

    suffixes = ["", "_fast", "_guided"]
    assert [bound(suffix, 4) for suffix in suffixes] == [STRIDED_MIN_VOLUME] * 3
    assert [bound(suffix, CONFIGS[weights[0]].num_steps) for suffix in suffixes] == [None] * 3
    if weights[0] == "crysldm":
        assert bound("_as_written", 4) is None


@pytest.mark.parametrize("steps", [0, 13])
def test_steps_beyond_the_schedule_are_refused(weights, steps):
    with pytest.raises(ValueError, match="steps must be 1 to"):
        make(weights, steps=steps)


def test_sizes_follow_the_training_split(weights):
    from bench.datasets import reference_card

    batch = make(weights).sample(num_crystals=300, seed=0)
    allowed = np.flatnonzero(reference_card("mp20").num_atoms_probabilities)
    # what failed has a reason and no size; an untrained network may fail often
    assert np.isin(batch.crystals.num_atoms, allowed).all()
    assert len(batch.crystals) + len(batch.reasons) == 300


def test_nan_from_a_network_is_a_reason_for_each_crystal(weights):
    generator = make(weights)
    with torch.no_grad():
        generator._model.network.lattice_out.weight.fill_(float("nan"))
    batch = generator.sample(num_crystals=5, seed=0)
    assert len(batch.crystals) == 0
    assert all("not finite" in reason for reason in batch.reasons.values())
    assert len(batch.network_evaluations) == 5


def test_corrupt_weights_are_one_clear_line(weights):
    path = weights[1]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="corrupt weights") as caught:
        make(weights)
    assert "\n" not in str(caught.value)


def test_a_missing_card_is_named(weights):
    weights[1].with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"weights\.json is missing"):
        make(weights)


def test_weights_of_another_size_are_named(weights):
    path = weights[1]
    card = json.loads(path.with_suffix(".json").read_text())
    card["config"]["network"]["hidden_dim"] = 16
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="do not fit"):
        make(weights)


def test_a_model_without_weights_says_how_to_train_them():
    with pytest.raises(ValueError, match=r"bench train --model crysldm --dataset perov5 --preset paper"):
        crysldm(dataset="perov5", preset="paper")


def small_config(name):
    config = CONFIGS[name]
    return dataclasses.replace(config, network=dataclasses.replace(config.network, hidden_dim=4))


def add_weak(weights, other_latents=False, **other):
    """A tiny weak network beside the weights, with their latents or with others."""
    name, path = weights
    config = dataclasses.replace(small_config(name), **other)
    model = build(name, config, 5)
    state = model.state_dict()
    if not other_latents:
        state |= {key: value for key, value in read_weights(path)[0].items() if not key.startswith("network.")}
    save_weights(weak_path(path), state, {"config": dataclasses.asdict(config)})


def autoguided(weights, **options):
    return make(weights, "_autoguided", **options)


def guided_steps(generator):
    """Steps in which the weak network is asked too."""
    model = generator._model
    alpha_bars = model.gaussian.alphas_cumprod[strided_times(model.config.num_steps, generator.steps)]
    return sum(model.config.sampler.guidance.acts_at(float(alpha_bar)) for alpha_bar in alpha_bars)


def test_both_evaluations_of_a_step_are_counted_and_the_card_names_both_weights(weights):
    add_weak(weights)
    generator = autoguided(weights, steps=4)
    batch = generator.sample(num_crystals=6, seed=0)
    assert generator.name == f"{weights[0]}-autoguided"
    assert batch.steps == 4
    assert (batch.network_evaluations == 4 + guided_steps(generator)).all()
    assert generator.card["weak"]["sha256"] == read_weights(weak_path(weights[1]))[1]["sha256"]
    assert generator.card["sha256"] == read_weights(weights[1])[1]["sha256"]


def test_a_weak_network_equal_to_the_other_changes_nothing(weights):
    path = weights[1]
    state, card = read_weights(path)
    save_weights(weak_path(path), state, {"config": card["config"]})
    fast = make(weights, "_fast", steps=4).sample(num_crystals=8, seed=1)
    guided = autoguided(weights, steps=4).sample(num_crystals=8, seed=1)
    assert fast.crystals == guided.crystals
    add_weak(weights)
    assert fast.crystals != autoguided(weights, steps=4).sample(num_crystals=8, seed=1).crystals


@pytest.mark.parametrize("name", list(FACTORIES))
def test_a_missing_weak_network_says_how_to_train_it(name, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.with_suffix(".json").write_bytes(find_weights(name, "mp20", "cpu").with_suffix(".json").read_bytes())
    with pytest.raises(ValueError, match=rf"bench train --model {name} --dataset mp20 --preset cpu-weak --init {path}"):
        sampler(name, "_autoguided")(dataset="mp20", weights=path)


def test_where_no_preset_trains_the_missing_weak_network_the_remedy_is_not_named(weights):
    with pytest.raises(ValueError, match=r"trains none for these weights \(differs in .*num_steps") as caught:
        autoguided(weights, steps=4)
    assert "bench train" not in str(caught.value)


def test_a_weak_network_of_another_schedule_is_refused(weights):
    add_weak(weights, num_steps=7)
    with pytest.raises(ValueError, match=r"weights-weak.safetensors: does not go with .* \(differs in num_steps\)"):
        autoguided(weights, steps=4)


def test_weights_of_another_data_set_are_refused(weights):
    card_path = weights[1].with_suffix(".json")
    card_path.write_text(json.dumps({**json.loads(card_path.read_text()), "dataset": "perov5"}))
    with pytest.raises(ValueError, match=r"weights.safetensors: trained on perov5, which --dataset mp20 is not"):
        make(weights)


def test_a_card_without_a_configuration_is_one_clear_line(weights):
    weights[1].with_suffix(".json").write_text('{"config": {"network": {}}}')
    with pytest.raises(ValueError, match=r"weights\.json: no configuration of .*; get the file again") as caught:
        make(weights)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_is_known_before_anything_is_loaded(weights):
    with pytest.raises(ValueError, match="steps must be 1 to"):
        FACTORIES[weights[0]](dataset="mp20", weights=weights[1], steps=13)


def test_the_card_says_how_the_sampler_steps(weights):
    fast, papers = (make(weights, suffix, steps=4).card for suffix in ("_fast", ""))
    assert fast["sampling"]["steps"] == papers["sampling"]["steps"] == 4
    assert fast["sampling"]["corrector"] != papers["sampling"]["corrector"]
    assert fast["config"] == papers["config"]


def test_a_weak_network_of_other_latents_is_refused(weights):
    if weights[0] == "diffcsp":
        pytest.skip("DiffCSP has no latents")
    add_weak(weights, other_latents=True)
    with pytest.raises(ValueError, match="trained on other latents"):
        autoguided(weights, steps=4)


@pytest.mark.parametrize("dataset", ["perov5", "mp20"])
@pytest.mark.parametrize("name", list(FACTORIES))
def test_the_weak_preset_is_the_small_network_of_the_same_latents(name, dataset):
    small, weak = preset(name, dataset, "cpu"), preset(name, dataset, "cpu-weak")
    sizes = [sum(p.numel() for p in p.build(0).network.parameters()) for p in (small, weak)]  # type: ignore[attr-defined]
    assert sizes[1] < 0.6 * sizes[0]
    same = dataclasses.replace(weak.config, network=small.config.network, loss_weights=small.config.loss_weights)
    assert same == small.config
    assert weak.stages[-1].epochs < small.stages[-1].epochs / 4


def test_cdvae_has_no_weak_preset():
    with pytest.raises(ValueError, match="cpu-weak for cdvae"):
        preset("cdvae", "mp20", "cpu-weak")


@pytest.mark.parametrize("steps", [4, 100])
def test_crystals_of_a_model_in_training_are_those_of_its_generator(weights, steps):
    name, path = weights
    config = dataclasses.replace(CONFIGS[name], sampler=dataclasses.replace(CONFIGS[name].sampler, clamp=None))
    model = build(name, config)
    model.load_state_dict(read_weights(path)[0])
    save_weights(path, model.state_dict(), {"config": dataclasses.asdict(config)})
    expected = make(weights, steps=min(steps, config.num_steps)).sample(num_crystals=6, seed=3)
    probabilities = reference_card("mp20").num_atoms_probabilities
    assert model.sample_in_training(6, 3, steps, probabilities).crystals == expected.crystals
    assert model.config == config


@pytest.mark.parametrize("guidance", [None, Guidance(0.7, (0.2, 0.9), "weak network")])
def test_a_sampler_comes_back_from_its_card_in_the_words_of_stored_runs(guidance):
    settings = SamplerSettings(clamp=(3.5, 4.0), guidance=guidance)
    card = json.loads(json.dumps(sampler_to_card(settings)))
    assert sampler_from_card(SamplerSettings, card) == settings
    if guidance is not None:
        assert card["guidance"] == {"weight": 0.7, "products": [0.2, 0.9], "away_from": "weak network"}
