"""Composition first: it draws compositions, by a likelihood that is one, and its generator keeps both parts."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from bench.datasets import FormulaSet, hashes_of
from bench.interfaces import Generator, StructurePredictor
from models.baselines.diffcsp.structure_prediction import StructurePrediction
from models.composition_first.charges import is_alloy, is_alloy_or_neutral, is_neutral, is_neutral_and_no_alloy
from models.composition_first.composition_model import CompositionConfig, CompositionModel
from models.composition_first.generator import composition_first, composition_first_fast, composition_first_template
from models.composition_first.pairs import Pairs, atoms_of, electronegativity_order, pairs_of
from models.composition_first.transformer import CompositionTransformer, TransformerConfig
from models.composition_first.volumes import fit_element_volumes, with_added_volumes
from models.cspnet import CSPNetConfig
from models.dense import pack
from models.diffusion import SeededNoise
from models.presets import Preset, preset
from models.weights import save_weights
from tests.random_crystals import random_crystals

TINY = TransformerConfig(hidden_dim=16, num_layers=2, num_heads=2, types=4, max_atoms=3)
ORDER = torch.from_numpy(electronegativity_order())
SIZES = np.array([0.0, 0.1, 0.2, 0.3, 0.4])


def noise(seed=0):
    return SeededNoise.from_seed(seed, "cpu")


def transformer(config=TINY, seed=0):
    return Preset(CompositionTransformer, config, ()).build(seed).eval()  # type: ignore[attr-defined,arg-type]


def model(seed=0, **changes):
    config = CompositionConfig(network=TransformerConfig(hidden_dim=16, num_layers=1, max_atoms=6), **changes)
    return Preset(CompositionModel, config, ()).build(seed).eval()  # type: ignore[attr-defined]


def test_cations_come_before_anions_and_noble_gases_last():
    ranks = {int(number): rank for rank, number in enumerate(electronegativity_order())}
    assert sorted(ranks) == list(range(1, 101))
    assert ranks[55] < ranks[22] < ranks[8] < ranks[9] < ranks[10]


def test_compositions_come_back_from_their_pairs():
    crystals = random_crystals([5] * 40, 0)
    (batch,) = pack(crystals)
    pairs = pairs_of(batch.atomic_numbers, ORDER)
    back = atoms_of(pairs, ORDER)
    assert all(
        np.array_equal(np.sort(row), np.sort(numbers)) for row, numbers in zip(back, batch.atomic_numbers, strict=True)
    )
    exists = pairs.counts > 0
    assert ((pairs.ranks[:, 1:] > pairs.ranks[:, :-1]) | ~exists[:, 1:]).all()


def all_compositions(num_atoms, types):
    """Every multiset of that many atoms of so many elements, as atomic numbers (C, N) under the identity order."""
    from itertools import combinations_with_replacement

    return torch.tensor(list(combinations_with_replacement(range(1, types + 1), num_atoms)))


@pytest.mark.parametrize("num_atoms", [1, 2, 3])
def test_the_probabilities_of_all_compositions_of_a_size_add_up_to_one(num_atoms):
    pairs = pairs_of(all_compositions(num_atoms, 4), torch.arange(1, 5))
    elements, numbers = transformer().double().log_likelihoods(pairs)
    assert (elements + numbers).exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_samples_come_as_often_as_their_likelihood_says():
    network, order, draws = transformer(), torch.arange(1, 5), 20_000
    pairs = network.sample(torch.full((draws,), 3), noise(1), 1.0)
    keys = [tuple(row.tolist()) for row in atoms_of(pairs, order)]
    compositions = all_compositions(3, 4)
    elements, numbers = network.log_likelihoods(pairs_of(compositions, order))
    expected = draws * (elements + numbers).exp()
    found = torch.tensor([keys.count(tuple(row)) for row in compositions.tolist()])
    assert found.sum() == draws
    assert ((found - expected).square() / expected).sum() < 45  # chi squared, 19 degrees of freedom: p = 0.0007


def test_a_pair_knows_nothing_of_those_after_it():
    network = transformer()
    ranks, counts = torch.tensor([[0, 1, 2], [0, 1, 3]]), torch.tensor([[1, 1, 1], [1, 1, 1]])
    features = network(Pairs(ranks, counts, torch.tensor([3, 3])))
    assert torch.equal(features[0, :3], features[1, :3])
    assert not torch.equal(features[0, 3], features[1, 3])


def test_padding_changes_no_likelihood_and_gives_no_nan_gradient():
    network = transformer().train()
    rows = torch.tensor([[1, 1, 1], [1, 2, 4]])
    together = torch.stack(network.log_likelihoods(pairs_of(rows, torch.arange(1, 5))))
    alone = torch.cat(
        [torch.stack(network.log_likelihoods(pairs_of(row[None], torch.arange(1, 5)))) for row in rows], 1
    )
    torch.testing.assert_close(together, alone)
    together.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_a_low_temperature_draws_what_is_likeliest():
    network = transformer()
    cold = network.sample(torch.full((50,), 3), noise(), 1e-3)
    assert len(torch.cat([cold.ranks, cold.counts], dim=1).unique(dim=0)) == 1


def test_sizes_follow_what_is_asked_for():
    sizes = [len(numbers) for numbers in model().sample(2000, 0, SIZES)]
    assert np.bincount(sizes, minlength=5) / 2000 == pytest.approx(SIZES, abs=0.05)


def test_compositions_that_are_known_are_drawn_again_with_as_many_atoms():
    plain = model().sample(300, 0, SIZES)
    known = FormulaSet(np.unique(hashes_of(plain[:200])))
    found = model().sample(300, 0, SIZES, lambda drawn: not known.contains(hashes_of([drawn]))[0])
    assert [len(row) for row in found] == [len(row) for row in plain]
    assert known.contains(hashes_of(plain)).mean() > 0.6
    assert known.contains(hashes_of(found)).mean() < 0.1
    new = ~known.contains(hashes_of(plain))
    assert all(np.array_equal(found[k], plain[k]) for k in np.flatnonzero(new))


def test_larger_crystals_than_it_makes_are_refused():
    with pytest.raises(ValueError, match="a crystal of 7 atoms, but the model makes at most 6"):
        model().stage_input("compositions", pack(random_crystals([3, 7], 0)))


def test_in_training_compositions_lie_on_a_grid():
    batch = model().sample_in_training(9, 0, 100, SIZES)
    assert len(batch.crystals) == 9
    assert [len(row) for row in model().sample(9, 0, SIZES)] == batch.crystals.num_atoms.tolist()


def test_there_is_no_preset_of_a_paper():
    with pytest.raises(ValueError, match="no preset paper for composition-first"):
        preset("composition-first", "mp20", "paper")


@pytest.fixture
def weights(tmp_path):
    """Tiny untrained weights of both parts, the structures' beside the others."""
    small = CSPNetConfig(hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4)
    structures = dataclasses.replace(preset("diffcsp-csp", "mp20", "cpu").config, network=small, num_steps=20)
    compositions = CompositionConfig(network=TransformerConfig(hidden_dim=8, num_layers=1, num_heads=2))
    for name, kind, config in (
        ("weights", ("composition-first", CompositionModel), compositions),
        ("weights-structures", ("diffcsp-csp", StructurePrediction), structures),
    ):
        state = Preset(kind[1], config, ()).build(0).state_dict()  # type: ignore[attr-defined,arg-type]
        card = {"config": dataclasses.asdict(config), "model": kind[0], "dataset": "mp20"}
        save_weights(tmp_path / f"{name}.safetensors", state, card)
    return tmp_path / "weights.safetensors"


def made(weights, factory=composition_first, **options):
    generator = factory("mp20", weights=weights, **options)
    generator.load("cpu")
    return generator


def test_it_is_a_generator_whose_batches_repeat(weights):
    generator = made(weights, steps=4)
    assert isinstance(generator, Generator)
    assert isinstance(generator, StructurePredictor)
    first, again, other = (generator.sample(num_crystals=12, seed=s) for s in (3, 3, 4))
    assert first.requested == 12
    assert first.crystals == again.crystals
    assert first.crystals != other.crystals
    assert (first.network_evaluations == 4).all()


def test_structures_of_given_compositions_are_those_of_the_structure_network(weights):
    given = [np.array([8, 12]), np.array([3, 3, 17])]
    batch = made(weights, steps=4).sample_given(compositions=given, seed=0)
    assert np.array_equal(batch.crystals.atomic_numbers, np.concatenate(given))


def test_structures_from_templates_say_so_and_need_the_training_crystals(weights, monkeypatch):
    salts = random_crystals([2] * 30 + [3] * 30, 0)
    monkeypatch.setattr("models.baselines.diffcsp.template_start.load_split", lambda *_, **__: salts)
    generator = made(weights, composition_first_template)
    batch = generator.sample_given([np.array([8, 12]), np.array([3, 3, 17]), np.array([3] * 5)], 0)
    assert batch.crystals.num_atoms.tolist() == [2, 3, 5]
    assert batch.network_evaluations.tolist() == [6, 6, 8]  # 0.3 of 20 times are six steps; no template, so from noise
    assert generator.card["sampling"]["start"] == {
        "templates": "training crystals of other compositions",
        "noise_of_time": 0.3,
    }


def test_its_card_names_both_weights_and_how_they_sample(weights):
    card = made(weights, composition_first_fast).card
    cards = [json.loads(weights.with_name(f"{stem}.json").read_text()) for stem in ("weights", "weights-structures")]
    assert (card["sha256"], card["structures"]["sha256"]) == (cards[0]["sha256"], cards[1]["sha256"])
    assert (card["sampling"]["steps"], card["sampling"]["temperature"]) == (16, 0.9)


@pytest.mark.parametrize("values", [{}, {"network": {"depth": 3}, "temperature": 1}])
def test_a_card_without_a_configuration_is_one_clear_line(weights, values):
    card = json.loads(weights.with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps({**card, "config": values}))
    with pytest.raises(ValueError, match=r"weights\.json: no configuration of composition-first") as caught:
        composition_first("mp20", weights=weights)
    assert "\n" not in str(caught.value)


def test_structures_of_another_data_set_are_refused(weights):
    path = weights.with_name("weights-structures.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "dataset": "perov5"}))
    with pytest.raises(ValueError, match="weights-structures.safetensors: trained on perov5"):
        composition_first("mp20", weights=weights)


def test_neutral_draws_keep_sizes_and_alloys_and_change_only_what_is_charged():
    untrained = model()
    probabilities = np.array([0, 0, 0, 0, 1.0])
    plain = untrained.sample(60, seed=3, num_atoms_probabilities=probabilities)
    neutral = untrained.sample(
        60, seed=3, num_atoms_probabilities=probabilities, keeps=is_alloy_or_neutral, takes=is_neutral_and_no_alloy
    )
    for before, after in zip(plain, neutral, strict=True):
        if is_alloy(before) or is_neutral(before):
            np.testing.assert_array_equal(before, after)
        elif not np.array_equal(before, after):
            assert is_neutral(after) and not is_alloy(after)
    assert [len(drawn) for drawn in neutral] == [len(drawn) for drawn in plain]
    assert sum(map(is_neutral, neutral)) > sum(map(is_neutral, plain))


def test_usual_oxidation_states_tell_salts_from_what_only_rare_ones_make_neutral():
    assert is_neutral(np.array([11, 17]))  # NaCl
    assert is_neutral(np.array([26, 26, 8, 8, 8])) and not is_neutral(np.array([26, 8, 8, 8]))  # Fe2O3, FeO3
    assert not is_neutral(np.array([26, 26, 26, 8, 8, 8, 8]))  # Fe3O4: one state for all atoms of an element
    assert is_alloy(np.array([29, 79])) and not is_alloy(np.array([29, 8]))
    assert not is_neutral(np.array([18, 18]))  # argon has none


def test_volumes_of_elements_that_add_up_are_found_and_give_cells_their_size():
    """Also of elements that the training data lacks; cells that are far off stay."""
    own = np.linspace(8.0, 40.0, 100)
    crystals = random_crystals([1, 2, 3, 4, 6] * 60, seed=0)
    crystals = dataclasses.replace(crystals, atomic_numbers=crystals.atomic_numbers % 20 + 1)
    scales = [own[crystals.arrays(b)[0] - 1].sum() for b in range(len(crystals))]
    volumes = np.abs(np.linalg.det(crystals.lattices))
    sized = dataclasses.replace(
        crystals, lattices=crystals.lattices * np.cbrt(np.array(scales) / volumes)[:, None, None]
    )
    found = fit_element_volumes(pack(sized), 100)
    there = np.unique(sized.atomic_numbers) - 1
    assert np.allclose(found[there], own[there], rtol=0.02)
    assert len(there) == 20
    absent = np.setdiff1d(np.arange(100), there)
    assert np.isfinite(found).all() and (np.abs(np.log(found[absent] / found[absent].mean())) < 1e-6).all()

    swollen = dataclasses.replace(sized, lattices=sized.lattices * 1.1)
    back = with_added_volumes(swollen, own)
    assert np.allclose(back.lattices, sized.lattices)
    assert np.array_equal(back.frac_coords, sized.frac_coords)
    far = dataclasses.replace(sized, lattices=sized.lattices * 1.3)
    assert np.array_equal(with_added_volumes(far, own).lattices, far.lattices)


def test_cells_of_composition_first_have_the_volumes_of_their_elements():
    generator = composition_first("mp20", steps=12)
    compositions = [np.array([8, 12]), np.array([26, 26, 8, 8, 8])]
    batch = generator.sample_given(compositions, seed=0)
    volumes = generator._compositions.element_volumes.numpy()
    ratios = np.abs(np.linalg.det(batch.crystals.lattices)) / [volumes[c - 1].sum() for c in compositions]
    assert all(np.isclose(ratio, 1.0) or not 0.5 < ratio < 2.0 for ratio in ratios)
    assert np.isclose(ratios, 1.0).any()
