"""CDVAE in the harness: one row of a run beside the others, its steps and its shipped weights."""

import json

from bench.testing import check_generator
from models.baselines.cdvae.generator import cdvae
from tests.command_line import bench


def test_it_keeps_the_protocol_of_generators():
    check_generator("cdvae@2")


def test_three_models_are_three_rows_of_one_command(tmp_path, capsys):
    models = "crysldm@2,diffcsp@2,cdvae@2"
    options = ["--num-samples", 4, "--tasks", "validity,properties", "--workers", 1, "--out", tmp_path / "run"]
    assert bench("run", "--models", models, "--dataset", "perov5", *options) == 0
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["models"]
    assert list(found) == models.split(",")
    # A Langevin step is one evaluation, a predictor-corrector step two.
    evaluations = [found[name]["metrics"]["network_evaluations"]["value"] for name in found]
    assert evaluations == [4, 4, 2]
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("CrysLDM", "DiffCSP", "CDVAE"))


def test_shipped_weights_make_crystals_of_five_atoms_in_the_steps_of_their_card():
    generator = cdvae("perov5")
    generator.load("cpu")
    config = generator.card["config"]
    assert generator.steps == config["num_levels"] * config["sampler"]["steps_per_level"] == 500
    assert set(cdvae("perov5", steps=2).sample(num_crystals=8, seed=0).crystals.num_atoms) == {5}


def test_more_steps_than_the_card_says_are_more_at_each_level():
    batch = cdvae("perov5", steps=501).sample(num_crystals=1, seed=0)
    assert batch.steps == 501 and batch.network_evaluations.tolist() == [501]


def test_the_list_of_models_and_the_doctor_know_it(capsys):
    assert bench("models") == 0
    shown = capsys.readouterr().out
    assert "CDVAE, a baseline" in shown and "cdvae-perov5-cpu" in shown
    assert bench("doctor") == 0
    assert "cdvae" in capsys.readouterr().out


def test_crystals_are_sampled_into_a_file(tmp_path):
    from bench.crystal_io import read_crystals

    path = tmp_path / "crystals.extxyz"
    assert bench("sample", "--model", "cdvae@3", "--dataset", "perov5", "--num-samples", 3, "--out", path) == 0
    assert len(read_crystals(path).filtered.crystals) == 3
