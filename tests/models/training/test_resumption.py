"""A training that is stopped goes on exactly where it was, within an epoch too, and stops soon."""

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import models.training.stage
from models.training import checkpoints
from models.training.log import read_log
from models.weights import read_weights
from tests.tiny_training import STAGE, Clock, checkpoint_of, give_preset, run, tiny_preset


def train_in_parts(model, out, monkeypatch, seconds):
    """The weights of a run that is stopped again and again; how many stops lay within an epoch and at its end."""
    stops = []
    monkeypatch.setattr(checkpoints, "now", Clock())
    for _ in range(40):
        path = run(model, out, resume=True, max_time=timedelta(seconds=seconds))
        if read_weights(path)[1]["finished"]:
            return path, stops.count(True), stops.count(False)
        last = max(out.glob("*.ckpt"), key=lambda saved: saved.stat().st_mtime)
        stops.append(torch.load(last, weights_only=False)["callbacks"]["Checkpoints"]["within_epoch"])
    raise AssertionError("it does not get on")


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tiny, tmp_path, monkeypatch):
    whole = load_file(run(tiny, tmp_path / "whole"))
    path, within, at_the_end = train_in_parts(tiny, tmp_path / "parts", monkeypatch, seconds=3)
    assert within >= 3 and at_the_end >= 1
    parts = load_file(path)
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name
    logged = [read_log(tmp_path / name, "diffusion") for name in ("whole", "parts")]
    pd.testing.assert_frame_equal(*logged, check_like=True)


def test_it_stops_within_a_batch_or_two_of_the_time(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "now", Clock())
    run(tiny, tmp_path / "run", max_time=timedelta(seconds=3))  # up in the second batch of three
    first = "vae" if tiny == "crysldm" else "diffusion"
    assert checkpoint_of(tmp_path / "run", first)["global_step"] == 2
    assert not list((tmp_path / "run").glob("log/*/metrics.csv"))  # no validation, no loss of a part of an epoch


class Killed(Exception):
    """What ends a training that nobody stopped."""


class KilledAfter(Clock):
    """A clock that ends the training at a given reading."""

    def __init__(self, readings):
        super().__init__()
        self.last = readings

    def __call__(self):
        if self.readings >= self.last:
            raise Killed
        return super().__call__()


@pytest.mark.parametrize("readings", [7, 14])
def test_a_killed_run_goes_on_from_what_was_saved_within_an_epoch(tiny, tmp_path, monkeypatch, readings):
    whole = load_file(run(tiny, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
        patch.setattr(checkpoints, "now", KilledAfter(readings))
        with pytest.raises(Killed):
            run(tiny, tmp_path / "run")
    (saved,) = (tmp_path / "run").glob("*.ckpt")
    assert torch.load(saved, weights_only=False)["callbacks"]["Checkpoints"]["within_epoch"]
    parts = load_file(run(tiny, tmp_path / "run", resume=True))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_an_earlier_version_saved_goes_on(tiny, tmp_path):
    """It saved whole epochs alone, and neither the place within one nor sums of losses."""
    whole = load_file(run(tiny, tmp_path / "whole"))
    run(tiny, tmp_path / "run", epochs=2)
    path = tmp_path / "run" / "diffusion.ckpt"
    saved = torch.load(path, weights_only=False)
    del saved["epoch_losses"], saved["callbacks"]["Checkpoints"]["within_epoch"]
    del saved["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    torch.save(saved, path)
    parts = load_file(run(tiny, tmp_path / "run", resume=True))
    assert parts.keys() == whole.keys()
    assert checkpoints.epochs_done(saved) == 2
    assert checkpoints.epochs_done(checkpoint_of(tmp_path / "run")) == 4


def test_a_stopped_run_says_so_in_its_card(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "now", Clock())
    path = run(tiny, tmp_path / "run", max_time=timedelta(seconds=5))
    assert read_weights(path)[1]["finished"] is False


def test_a_plateau_is_counted_in_epochs_and_resumes_exactly(tmp_path, monkeypatch, tiny):
    if tiny != "diffcsp":
        pytest.skip("one model is enough")
    stage = replace(STAGE, schedule="plateau", epochs=8, validate_every=1, learning_rate=0.1, ema_decay=0.0)
    chosen = replace(tiny_preset(tiny), stages=(stage,))
    give_preset(monkeypatch, tiny, chosen)
    monkeypatch.setattr(models.training.stage, "PLATEAU_EPOCHS", 0)
    run(tiny, tmp_path / "whole")
    train_in_parts(tiny, tmp_path / "parts", monkeypatch, seconds=3)
    whole, parts = (checkpoint_of(tmp_path / name)["lr_schedulers"] for name in ("whole", "parts"))
    assert whole == parts
    assert whole[0]["_last_lr"][0] < stage.learning_rate
