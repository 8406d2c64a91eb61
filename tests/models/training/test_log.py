"""What a training says meanwhile: losses, metrics of samples, progress, and nothing else."""

import logging
from contextlib import contextmanager
from datetime import timedelta

import pytest
import torch
from safetensors.torch import load_file

from models.training import checkpoints
from models.training.log import read_log
from models.training.stage import SampledMetrics
from tests.tiny_training import Clock, checkpoint_of, run


def test_losses_and_sample_metrics_are_logged_and_drawn(tiny, tmp_path):
    run(tiny, tmp_path / "run", score=lambda sampled: {"mean_atoms": float(sampled.num_atoms.mean())})
    log = read_log(tmp_path / "run", "diffusion")
    assert log["train_loss"].notna().sum() == 4
    assert log["val_loss"].notna().sum() == 2
    # CDVAE counts atoms itself; hardly trained, it may count one too many.
    assert log["sample_mean_atoms"].dropna().between(2, 4 if tiny == "cdvae" else 3).all()
    assert log["sample_generated"].notna().sum() == 2
    assert (tmp_path / "run" / "losses.png").stat().st_size > 1000


def test_progress_is_told_of_every_epoch_and_of_those_done_before(tiny, tmp_path, monkeypatch):
    told = []

    @contextmanager
    def progress(label, total, unit, done):
        advances = []
        yield lambda *work: advances.append(work)
        told.append((label, total, unit, done, advances))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "now", Clock())
        run(tiny, tmp_path / "run", max_time=timedelta(seconds=24 if tiny == "crysldm" else 10), progress=progress)
    saved = checkpoint_of(tmp_path / "run")
    whole, begun = checkpoints.epochs_done(saved), saved["epoch_losses"][1]
    assert 0 < whole < 4 and 0 < begun < 10
    run(tiny, tmp_path / "run", resume=True, progress=progress)
    first, second = told[-2:]
    assert first == ("training diffusion", 4, "epochs", 0, [(1, 10)] * whole + [(begun / 10, begun)])
    left = 10 - begun
    assert second == (
        "training diffusion",
        4,
        "epochs",
        whole + begun / 10,
        [(left / 10, left)] + [(1, 10)] * (3 - whole),
    )


def test_training_announces_nothing_but_its_progress(tiny, tmp_path, capfd):
    said = logging.StreamHandler()  # to the standard error of this test
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.addHandler(said)
    try:
        run(tiny, tmp_path / "run")
    finally:
        logger.removeHandler(said)
    assert capfd.readouterr().err == ""
    assert logger.level == level < logging.WARNING


def test_samples_are_scored_with_the_averaged_weights(tmp_path, monkeypatch, tiny):
    if tiny != "diffcsp":
        pytest.skip("one model is enough")
    seen = []

    def noted(self, model):
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return {"generated": 1.0}

    monkeypatch.setattr(SampledMetrics, "__call__", noted)
    path = run(tiny, tmp_path / "run", score=lambda sampled: {})
    averaged = load_file(path)  # those of the last epoch, which was scored
    assert len(seen) == 2
    assert all(torch.equal(seen[-1][key], averaged[key]) for key in averaged)


def test_training_leaves_global_random_state_alone(tiny, tmp_path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    run(tiny, tmp_path / "run")
    assert torch.equal(before, torch.random.get_rng_state())
