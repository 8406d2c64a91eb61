"""Our models as `bench learn` trains them: snapshots by a clock of its own, kills, and what is timed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import models.training.card
import models.training.learning
from bench.interfaces import TrainingOrder
from bench.learning.conformance import Killed, StepClock
from bench.learning.timer import SnapshotTimer
from models.training import checkpoints
from models.training.learning import PresetTraining, rising_average, stages_of
from models.weights import read_weights
from tests.tiny_training import crystals, give_preset, tiny_preset

MARKS = (2.0, 9.0, 16.0)  # a tiny epoch has about three steps


@pytest.fixture(params=["crysldm", "diffcsp", pytest.param("cdvae", marks=pytest.mark.slow)])
def tiny(request, monkeypatch) -> str:
    """The name of a model whose preset is tiny, on ten random crystals."""
    give_preset(monkeypatch, request.param, tiny_preset(request.param))
    monkeypatch.setattr(
        models.training.learning, "load_split", lambda dataset, split: crystals({"train": 0, "val": 1}[split])
    )
    monkeypatch.setattr(models.training.card, "split_hash", lambda dataset, split: f"hash of {split}")
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    return request.param


def train(name, folder, last=None, seed=0, factor=1.0) -> list[bytes]:
    """The bytes of the snapshots' weights."""
    timer = SnapshotTimer(MARKS, StepClock(last), folder, measures_cpu=False)
    order = TrainingOrder("perov5", "cpu", "cpu", 1, seed, factor, folder / "checkpoints")
    PresetTraining(name, name, None).train(order, timer)
    assert timer.seconds == MARKS[-1]
    return [(folder / f"snapshot-{k}" / "weights.safetensors").read_bytes() for k in range(len(MARKS))]


def test_a_killed_training_goes_on_to_the_same_bytes(tiny, tmp_path) -> None:
    whole = train(tiny, tmp_path / "whole")
    assert len(set(whole)) == len(MARKS)
    for last in (1, 3, 1, 4):  # in the autoencoder of CrysLDM, at its end, when its latents are computed, later
        with pytest.raises(Killed):
            train(tiny, tmp_path / "killed", last)
        assert list((tmp_path / "killed" / "checkpoints").glob("*.ckpt"))
    assert train(tiny, tmp_path / "killed") == whole
    assert train(tiny, tmp_path / "other", seed=1)[-1] != whole[-1]
    assert train(tiny, tmp_path / "faster", factor=2.0)[-1] != whole[-1]


def test_the_card_of_a_snapshot_says_what_it_cost_and_who_may_sample_from_it(tiny, tmp_path) -> None:
    train(tiny, tmp_path)
    state_dict, card = read_weights(tmp_path / "snapshot-1" / "weights.safetensors")
    assert (card["model"], card["training_seconds"], card["seed"]) == (tiny, 9.0, 0)
    built = tiny_preset(tiny)
    built.model(built.config).load_state_dict(state_dict)


def test_stages_before_the_last_take_a_quarter_at_most(tmp_path, tiny, monkeypatch) -> None:
    if tiny != "crysldm":
        pytest.skip("it alone has two stages")
    preset = tiny_preset(tiny)
    endless = replace(preset, stages=(replace(preset.stages[0], epochs=1000), preset.stages[1]))
    give_preset(monkeypatch, tiny, endless)
    train(tiny, tmp_path)
    saved = torch.load(tmp_path / "checkpoints" / "vae.ckpt", weights_only=False)
    assert saved["global_step"] == 4
    # One second of the other twelve is the one step in which the latents are computed.
    assert torch.load(tmp_path / "checkpoints" / "diffusion.ckpt", weights_only=False)["global_step"] == 11


def test_the_learning_rate_of_the_last_stage_does_not_decay() -> None:
    vae, diffusion = stages_of(tiny_preset("crysldm"), 2.0)
    assert (vae.schedule, diffusion.schedule) == ("cosine", "hold")
    assert diffusion.learning_rate == 2 * tiny_preset("crysldm").stages[1].learning_rate
    assert vae.learning_rate == 2 * tiny_preset("crysldm").stages[0].learning_rate


def test_averaged_weights_follow_closely_at_first() -> None:
    averaged, current = [torch.zeros(1)], [torch.ones(1)]
    rising_average(0.999)(averaged, current, torch.tensor(1))
    assert averaged[0].item() == pytest.approx(1 - 2 / 11)
    averaged = [torch.zeros(1)]
    rising_average(0.999)(averaged, current, torch.tensor(10**6))
    assert averaged[0].item() == pytest.approx(0.001, rel=1e-3)
