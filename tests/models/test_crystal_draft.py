"""Drafts of crystals: cells and places as whole numbers, their likelihood, and predictions that begin at them."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from bench.interfaces import Generator, StructurePredictor
from models.baselines.diffcsp.structure_prediction import StructurePrediction
from models.composition_first.pairs import pairs_of
from models.crystal_draft.cell_tokens import (
    NUM_STEPS,
    NUM_TOKENS,
    fit_meanings,
    lattices_of,
    possible,
    quantities,
    tokens_of,
)
from models.crystal_draft.crystal_draft import CrystalDraft, CrystalDraftConfig
from models.crystal_draft.generator import DraftStarts, diffcsp_csp_draft
from models.crystal_draft.transformer import NUM_PLACES, CrystalTransformerConfig, Draft
from models.cspnet import CSPNetConfig
from models.dense import DenseBatch, pack
from models.diffusion import SeededNoise
from models.presets import Preset, preset
from models.weights import save_weights
from tests.random_crystals import random_crystals

NET = CrystalTransformerConfig(hidden_dim=16, num_layers=2, num_heads=2, max_atoms=6)
COMPOSITIONS = [np.array(numbers) for numbers in ([8, 22, 8, 56, 8], [11, 17], [3], [26, 26, 16, 16, 29], [17, 11])]


def noise(seed=0):
    return SeededNoise.from_seed(seed, torch.device("cpu"))


def cells(*parameters, num_atoms=2):
    """Crystals of one size in cells of these lengths and angles."""
    from pymatgen.core import Lattice

    lattices = torch.tensor(np.array([Lattice.from_parameters(*row).matrix for row in parameters]))
    batch = len(lattices)
    return DenseBatch(torch.full((batch, num_atoms), 6), torch.rand(batch, num_atoms, 3).double(), lattices)


def trained_on(crystals, temperature=1.0):
    """A model with fresh weights that knows the cells of these crystals."""
    model = CrystalDraft(CrystalDraftConfig(NET, temperature)).double().eval()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    model.fit_statistics("draft", crystals, 0)
    return model


@pytest.fixture
def model():
    return trained_on(pack(random_crystals([3] * 40, 0, skew=0.2), torch.float64))


def test_quantities_are_the_cells_lengths_angles_and_volume():
    a, b, c, alpha, beta, gamma = 3.0, 4.0, 6.0, 80.0, 95.0, 110.0
    batch = cells((a, b, c, alpha, beta, gamma), num_atoms=4)
    volume = batch.lattices.det().abs().item() / 4
    expected = [np.log(b / a), np.log(c / b), alpha, beta, gamma, np.log(volume)]
    assert quantities(batch)[0].tolist() == pytest.approx(expected)


def test_a_step_means_what_most_of_its_crystals_are():
    cubic, off = (4.0, 4.0, 4.0, 90.0, 90.0, 90.0), (4.0, 4.02, 4.05, 90.5, 89.6, 90.8)
    batch = cells(cubic, cubic, cubic, off)
    meanings = fit_meanings([batch])
    tokens = tokens_of(quantities(batch))
    assert torch.equal(tokens[0], tokens[3])
    found = lattices_of(tokens, 2, meanings)
    torch.testing.assert_close(found[3], torch.diag(torch.full((3,), 4.0)).double(), rtol=1e-12, atol=1e-12)


def test_cells_come_back_from_their_numbers_within_half_a_step():
    crystals = pack(random_crystals([3] * 40, 1, skew=0.2), torch.float64)
    meanings = fit_meanings(crystals)
    for batch in crystals:
        back = lattices_of(tokens_of(quantities(batch)), batch.num_atoms, meanings)
        gap = quantities(dataclasses.replace(batch, lattices=back)) - quantities(batch)
        assert (back.det() > 0).all()
        assert gap.abs().amax(0).tolist() == pytest.approx([0] * 6, abs=2.0)
        assert gap[:, [0, 1, 5]].abs().max() < 0.04


def test_only_cells_of_some_volume_are_possible(model):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(500, 0, dtype=torch.long)
    for _ in range(NUM_TOKENS):
        allowed = possible(tokens, model.meanings)
        assert allowed.any(1).all()
        chosen = torch.multinomial(allowed.double(), 1, generator=generator)
        tokens = torch.cat([tokens, chosen], dim=1)
    found = lattices_of(tokens, 3, model.meanings)
    assert found.isfinite().all()
    assert (found.det() > 0).all()


def test_angles_that_close_no_cell_are_not_drawn():
    batch = cells((4.0, 4.0, 4.0, 60.0, 60.0, 60.0), (4.0, 4.0, 4.0, 90.0, 90.0, 120.0))
    meanings = fit_meanings([batch])
    tokens = tokens_of(quantities(batch))[:1, :4]
    allowed = possible(tokens, meanings)[0]
    gammas = tokens_of(quantities(batch))[:, 4]
    assert allowed[gammas[0]]
    assert not allowed[gammas[1]]  # 60 and 60 degrees leave no room for 120


def test_what_comes_first_knows_nothing_of_what_comes_after(model):
    batch = pack(random_crystals([3] * 4, 2), torch.float64)[0]
    draft = model.encode(batch)
    features = model.network(draft, model.order)
    assert features.shape[1] == NUM_TOKENS + 3
    for known_cells, known_places in ((0, 0), (3, 0), (NUM_TOKENS, 0), (NUM_TOKENS, 2)):
        part = Draft(draft.pairs, draft.elements, draft.cells[:, :known_cells], draft.places[:, :known_places])
        found = model.network(part, model.order)
        assert found.shape[1] == 1 + known_cells + known_places
        torch.testing.assert_close(found, features[:, : found.shape[1]], rtol=1e-9, atol=1e-9)


def test_padding_of_compositions_changes_no_likelihood(model):
    rows = torch.tensor([[8, 8, 8], [3, 17, 26]])
    crystals = DenseBatch(rows, torch.rand(2, 3, 3).double(), 4 * torch.eye(3).double().expand(2, 3, 3))
    together = model.network.log_likelihoods(model.encode(crystals), model.order)
    for k in range(2):
        alone = model.network.log_likelihoods(model.encode(crystals.slice(k, k + 1)), model.order)
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], both[k], rtol=1e-9, atol=1e-9)


def test_choices_come_as_often_as_their_likelihood_says(model):
    """The first coordinate of an atom alone in a cell that is given, over its 96 steps."""
    draws = 20_000
    numbers = torch.full((draws, 1), 26)
    pairs = pairs_of(numbers, model.order)
    drafts = model.network.sample(pairs, numbers, model.order, model.meanings, noise(), 1.0)
    logp = {}
    for row in drafts.cells.unique(dim=0)[:50]:
        logp[tuple(row.tolist())] = (drafts.cells == row).all(1)
    cell, chosen = max(logp.items(), key=lambda item: item[1].sum())
    count = int(chosen.sum())
    places = drafts.places[chosen, 0, 0]
    one = Draft(pairs_of(numbers[:1], model.order), numbers[:1], torch.tensor([cell]), drafts.places[:1, :0])
    logits = model.network.place_logits(model.network(one, model.order)[:, -1], drafts.places[:1, 0, :0])
    expected = count * logits.softmax(-1)[0]
    found = torch.bincount(places, minlength=NUM_PLACES)
    assert ((found - expected).square() / expected).sum() < NUM_PLACES + 4 * (2 * NUM_PLACES) ** 0.5


def test_a_low_temperature_drafts_what_is_likeliest(model):
    numbers = torch.tensor([[3, 17, 17]]).expand(20, 3)
    model.config = dataclasses.replace(model.config, temperature=1e-6)
    found = model.sample(numbers, noise())
    assert len(torch.cat([found.frac_coords.flatten(1), found.lattices.flatten(1)], 1).unique(dim=0)) == 1


def test_of_several_drafts_the_likeliest_is_taken(model):
    numbers = torch.tensor([[3, 17, 17], [8, 8, 26]])
    found = model.sample(numbers, noise(2), tries=5)
    assert found.atomic_numbers.tolist() == numbers.tolist()
    drafts = model.sample(numbers.repeat_interleave(5, dim=0), noise(2))  # the same draws
    nats = [values.flatten(1).sum(1) for values in model.network.log_likelihoods(model.encode(drafts), model.order)]
    best = (nats[0] + nats[1]).view(2, 5).argmax(1)
    assert torch.equal(found.frac_coords, drafts.frac_coords[best + torch.tensor([0, 5])])
    assert torch.equal(found.lattices, drafts.lattices[best + torch.tensor([0, 5])])


def test_no_atom_is_drafted_where_another_one_is():
    model = trained_on(pack(random_crystals([3] * 40, 0, skew=0.2), torch.float64), temperature=1e-6)
    for layer in model.network.place_out:
        torch.nn.init.zeros_(layer.weight)  # every atom would go to the same place
    found = model.sample(torch.full((3, 6), 26), noise())
    assert all(len(row.unique(dim=0)) == 6 for row in (found.frac_coords * NUM_PLACES).round())


def test_places_follow_the_order_in_which_the_atoms_are_given(model):
    one, other = (model.sample(torch.tensor([row]), noise(5)) for row in ([8, 26, 8], [26, 8, 8]))
    assert torch.equal(one.lattices, other.lattices)
    assert torch.equal(one.frac_coords[0, [1, 0, 2]], other.frac_coords[0])
    assert one.atomic_numbers.tolist() == [[8, 26, 8]]


def test_losses_are_nats_of_what_the_training_crystals_have(model):
    batch = pack(random_crystals([3] * 40, 0, skew=0.2), torch.float64)[0]
    losses = model.stage_losses("draft", batch, noise(), 0.0)
    assert losses["loss"].item() == pytest.approx(losses["cell"].item() / 3 + losses["place"].item())
    cell_logits = NUM_TOKENS * np.log(NUM_STEPS)
    assert 0.5 * cell_logits < losses["cell"].item() < 3 * cell_logits  # random weights: about a guess


def test_in_training_half_of_the_crystals_are_inverted(model):
    batch = pack(random_crystals([3] * 200, 0, skew=0.2), torch.float64)[0]
    seen = []

    def watched(given):
        seen.append(given)
        return CrystalDraft.encode(model, given)

    model.encode = watched
    for training in (True, False):
        model.train(training).stage_losses("draft", batch, noise(), 0.0)
    kept = (seen[0].frac_coords == batch.frac_coords).all((1, 2))
    assert 70 < kept.sum() < 130
    torch.testing.assert_close(seen[0].frac_coords[~kept], -batch.frac_coords[~kept] % 1.0)
    assert torch.equal(seen[1].frac_coords, batch.frac_coords)


def test_larger_crystals_than_it_makes_are_refused(model):
    with pytest.raises(ValueError, match="a crystal of 7 atoms, but the model makes at most 6"):
        model.stage_input("draft", pack(random_crystals([3, 7], 0)))
    with pytest.raises(ValueError, match="a composition of 7 atoms; drafts have at most 6"):
        model.crystals([np.full(7, 8)], 0)


def test_there_is_no_preset_of_a_paper():
    with pytest.raises(ValueError, match="no preset paper for crystal-draft"):
        preset("crystal-draft", "mp20", "paper")


@pytest.fixture
def weights(tmp_path, model):
    """Tiny untrained weights of a structure network, and of drafts beside them."""
    small = CSPNetConfig(hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4)
    config = dataclasses.replace(preset("diffcsp-csp", "mp20", "cpu").config, network=small, num_steps=20)
    state = Preset(StructurePrediction, config, ()).build(0).state_dict()  # type: ignore[attr-defined]
    path = tmp_path / "weights.safetensors"
    save_weights(path, state, {"config": dataclasses.asdict(config), "model": "diffcsp-csp", "dataset": "mp20"})
    card = {"config": dataclasses.asdict(model.config), "model": "crystal-draft", "dataset": "mp20"}
    save_weights(tmp_path / "weights-draft.safetensors", model.float().state_dict(), card)
    return path


def test_a_prediction_begins_at_a_draft(weights):
    generator = diffcsp_csp_draft("mp20", weights=weights)
    generator.load("cpu")
    assert isinstance(generator, Generator)
    assert isinstance(generator, StructurePredictor)
    first, again, other = (generator.sample_given(compositions=COMPOSITIONS, seed=s) for s in (3, 3, 4))
    assert first.crystals == again.crystals
    assert first.crystals != other.crystals
    assert np.array_equal(first.crystals.atomic_numbers, np.concatenate(COMPOSITIONS))
    assert (first.network_evaluations == 6).all()  # 0.3 of 20 times
    start = generator.card["sampling"]["start"]
    assert start["noise_of_time"] == 0.3
    assert start["drafts"]["model"] == "crystal-draft"
    assert (start["temperature"], start["tries"]) == (1.0, 4)


def test_a_composition_too_large_for_a_draft_begins_at_noise(weights):
    starts = DraftStarts("mp20", weights)
    found = starts([np.array([8, 12]), np.full(7, 8), np.array([3])], 0)
    assert [start is None for start in found] == [False, True, False]
    frac_coords, lattice = found[0]
    assert (frac_coords.shape, lattice.shape) == ((2, 3), (3, 3))


@pytest.mark.parametrize(
    ("numbers", "message"), [([101], "atomic number 101 is not in 1 to 100"), ([], "must be a list")]
)
def test_what_is_no_composition_is_named(weights, numbers, message):
    with pytest.raises(ValueError, match=f"composition 1: .*{message}"):
        DraftStarts("mp20", weights)([np.array([8]), np.array(numbers, dtype=np.int64)], 0)


@pytest.mark.parametrize("values", [{}, {"network": {"depth": 3}, "temperature": 1}])
def test_a_card_without_a_configuration_is_one_clear_line(weights, values):
    path = weights.with_name("weights-draft.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "config": values}))
    with pytest.raises(ValueError, match=r"weights-draft\.json: no configuration of crystal-draft") as caught:
        diffcsp_csp_draft("mp20", weights=weights)
    assert "\n" not in str(caught.value)
