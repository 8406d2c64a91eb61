"""Ctrl-C during a training: it ends soon with exit code 130, and goes on exactly from where it was."""

import signal

import pytest
import torch
from safetensors.torch import load_file

from bench.cli import main
from models.training import checkpoints
from tests.tiny_training import Clock, checkpoint_of, run


class CtrlC(Clock):
    """A clock in whose given readings Ctrl-C is pressed."""

    def __init__(self, *readings):
        super().__init__()
        self.pressed_at = readings

    def __call__(self):
        super().__call__()
        for _ in range(self.pressed_at.count(self.readings)):
            signal.raise_signal(signal.SIGINT)
        return self.readings


def train_and_press(monkeypatch, out, *readings, model="diffcsp"):
    """The exit code of `bench train`, interrupted."""
    arguments = ["train", "--model", model, "--dataset", "perov5", "--device", "cpu", "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "now", CtrlC(*readings))
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    return ended.value.code


def test_it_ends_with_130_a_checkpoint_and_the_command_that_goes_on(tiny, tmp_path, monkeypatch, capsys):
    out, before = tmp_path / "run", signal.getsignal(signal.SIGINT)  # ignored where a shell runs pytest behind itself
    assert train_and_press(monkeypatch, out, 5, model=tiny) == 130
    said = capsys.readouterr().err
    assert f"interrupted; go on with `python -m bench train --model {tiny} --dataset perov5" in said
    assert f"--out {out} --device cpu --resume`" in said
    (saved,) = out.glob("*.ckpt")
    assert torch.load(saved, weights_only=False)["callbacks"]["Checkpoints"]["within_epoch"]
    assert not (out / "weights.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_what_was_interrupted_ends_with_the_weights_of_an_uninterrupted_one(tiny, tmp_path, monkeypatch):
    whole = load_file(run(tiny, tmp_path / "whole"))
    train_and_press(monkeypatch, tmp_path / "run", 5, model=tiny)
    parts = load_file(run(tiny, tmp_path / "run", resume=True))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("tiny", ["diffcsp"], indirect=True)
def test_a_second_one_ends_it_at_once_and_keeps_what_was_saved(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    assert train_and_press(monkeypatch, tmp_path / "run", 5, 5) == 130  # before the second saving
    assert "go on with" in capsys.readouterr().err
    assert checkpoint_of(tmp_path / "run")["global_step"] == 1


@pytest.mark.parametrize("tiny", ["diffcsp"], indirect=True)
def test_before_anything_was_saved_it_says_so(tiny, tmp_path, monkeypatch, capsys):
    assert train_and_press(monkeypatch, tmp_path / "run", 2, 2) == 130
    assert "no checkpoint was written yet" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("*.ckpt"))
