"""CDVAE equals the published code: encoder, decoder, decoded statistics and annealed Langevin dynamics."""

import os
from pathlib import Path

import pytest
import torch

from models.baselines.cdvae.cells import lattices_from_parameters, parameters_of_lattices
from models.baselines.cdvae.graph import Layout
from models.baselines.cdvae.official import cdvae_from_official, decoder_from_official, encoder_from_official
from tests.plain_cdvae import PlainGemNetT
from tests.replay_cdvae import apart, model_of, replay

FOLDER = os.environ.get("BENCH_GOLDEN_DIR")
pytestmark = pytest.mark.skipif(not FOLDER, reason="BENCH_GOLDEN_DIR is not set: no golden fixtures here")


def load(name):
    return torch.load(Path(FOLDER) / name, weights_only=True)


def test_encoder_gives_the_published_latents():
    fixture = load("cdvae_encoder.pt")
    assert fixture["config"]["otf_graph"]
    encoder = encoder_from_official(fixture["state_dict"], fixture["config"])
    inputs = fixture["inputs"]
    lattices = lattices_from_parameters(inputs["lengths"], inputs["angles"])
    with torch.no_grad():
        latents = encoder(inputs["atom_types"], inputs["frac_coords"], lattices, inputs["num_atoms"])
    torch.testing.assert_close(latents, fixture["outputs"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plain", [False, True], ids=["ours", "plain"])
def test_decoder_gives_the_published_directions_and_types(plain):
    fixture = load("cdvae_decoder.pt")
    config = fixture["config"]
    decoder = decoder_from_official(fixture["state_dict"], config["radius"], config["max_neighbors"])
    inputs = fixture["inputs"]
    lattices = lattices_from_parameters(inputs["lengths"], inputs["angles"])
    layout = Layout.of(inputs["num_atoms"])
    with torch.no_grad():
        network = PlainGemNetT(decoder) if plain else decoder
        moved, logits = network(inputs["z"], inputs["frac_coords"], inputs["atom_types"], lattices, layout)
    torch.testing.assert_close(moved, fixture["outputs"]["cart_coord_diff"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, fixture["outputs"]["type_logits"], rtol=1e-4, atol=1e-4)


def test_activation_scales_are_those_of_the_published_file():
    fixture = load("cdvae_decoder.pt")
    scales, decoder = fixture["scale_factors"], decoder_from_official(fixture["state_dict"])
    for k, output in enumerate(decoder.outputs):
        assert float(output.scale) == pytest.approx(scales[f"OutBlock_{k}_had"])
    for k, block in enumerate(decoder.interactions, start=1):
        assert float(block.triplets.rbf_scale) == pytest.approx(scales[f"TripInteraction_{k}_had_rbf"])
        assert float(block.triplets.triplet_scale) == pytest.approx(scales[f"TripInteraction_{k}_sum_cbf"])
        assert float(block.atom_scale) == pytest.approx(scales[f"AtomUpdate_{k}_sum"])


def test_latents_decode_to_the_published_cells():
    fixture = load("cdvae_langevin.pt")
    model, final = model_of(fixture), fixture["final"]
    with torch.no_grad():
        predicted = model.statistics(fixture["z"])
        lengths, angles = model.cell_parameters(predicted.scaled_lattice, fixture["num_atoms"])
    torch.testing.assert_close(lengths, final["lengths"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(angles, final["angles"], rtol=1e-4, atol=1e-4)
    lattices = lattices_from_parameters(lengths, angles)
    torch.testing.assert_close(parameters_of_lattices(lattices)[1], final["angles"], rtol=1e-4, atol=1e-3)
    assert predicted.num_atoms_logits.shape == (len(lengths), fixture["config"]["max_atoms"] + 1)
    # Every first type that was drawn is one the composition leaves room for.
    shares = predicted.composition_logits.softmax(1).repeat_interleave(fixture["num_atoms"], dim=0)
    assert (shares.gather(1, fixture["initial_types"][:, None] - 1) > 0).all()


def test_replayed_draws_end_at_the_published_sample():
    """As near as rounding lets anybody come.

    The first Langevin steps are 14 A long and a random network magnifies a rounding error of 1e-7 to 0.05, or to
    another type and other places where a type hangs in the balance. So the recorded end is a property of the processor
    too: met to the last bit on one kind, it is off on another, whoever's code runs. Our sampler on the plain decoder
    must end as near to it as to itself when the draws are changed by one rounding, in at least one crystal closely and
    with the same types (a step size wrong by 2 % ends 0.5 away there). Our fast decoder must agree with the plain one
    at every state on the way.
    """
    fixture = load("cdvae_langevin.pt")
    num_atoms = fixture["num_atoms"]
    end, decoders, all_used = replay(fixture)
    assert all_used
    assert decoders.evaluations == len(fixture["state_dict"]["sigmas"]) * fixture["langevin"]["n_step_each"]
    assert decoders.apart <= 1e-4
    found = apart(end, fixture["final"], num_atoms)
    if all(same and shift <= 1e-3 for shift, same in found):
        return
    ours = {"frac_coords": end.frac_coords, "atom_types": end.atomic_numbers}
    others = [apart(replay(fixture, nudged=seed)[0], ours, num_atoms) for seed in range(16)]
    closely = 0
    for crystal, (shift, same) in enumerate(found):
        spread = max(other[crystal][0] for other in others)
        certain = all(other[crystal][1] for other in others)
        assert shift <= max(1e-3, spread)
        assert same or not certain
        closely += certain and spread <= 0.1
    assert closely >= 1


def test_a_foreign_state_dict_is_refused_by_name():
    fixture = load("cdvae_langevin.pt")
    weights = dict(fixture["state_dict"])
    scaler = fixture["lattice_scaler"]["means"], fixture["lattice_scaler"]["stds"]
    with pytest.raises(ValueError, match=r"fc_lattice\.0\.weight"):
        cdvae_from_official({k: v for k, v in weights.items() if "fc_lattice" not in k}, scaler)
    weights["decoder.gemnet.int_blocks.0.novelty.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="novelty"):
        cdvae_from_official(weights, scaler)
