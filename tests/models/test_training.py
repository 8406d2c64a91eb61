"""Training: exact resumption, batches, logs, and weights that come back as they were."""

import json
import logging
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import models.trainees
import models.training
from bench.atomic import folder_lock
from bench.crystals import Crystals
from models.baselines.cdvae.autoencoder import CDVAEConfig
from models.baselines.cdvae.encoder import EncoderConfig
from models.baselines.cdvae.gemnet import GemNetConfig
from models.baselines.cdvae.langevin import LangevinSettings
from models.baselines.diffcsp.diffusion import DiffCSPConfig
from models.crysldm.autoencoder import AutoencoderConfig
from models.crysldm.latent_diffusion import CrysLDMConfig
from models.cspnet import CSPNetConfig
from models.dense import pack
from models.presets import Preset, StageConfig, preset
from models.training import EpochBatches, rate_factor, read_log, train
from models.weights import find_weights, read_weights

NET = CSPNetConfig(hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4)
STAGE = StageConfig("diffusion", epochs=4, batch_size=4, precision="32-true", validate_every=2, sample_every=2)


def crystals(seed, sizes=(2, 3, 2, 3, 3, 2, 2, 3, 2, 2)):
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    lattices = 4 * np.eye(3) + 0.3 * rng.normal(size=(len(sizes), 3, 3))
    return Crystals(np.array(sizes), rng.integers(1, 90, total), rng.random((total, 3)), lattices)


CDVAE = CDVAEConfig(
    latent_dim=8,
    hidden_dim=8,
    max_atoms=4,
    encoder=EncoderConfig(8, 1, int_emb_size=4, basis_emb_size=4, out_emb_channels=8, num_spherical=3, num_radial=3),
    decoder=GemNetConfig(hidden_dim=8, latent_dim=8, num_blocks=1, emb_size_trip=4, num_radial=8),
    num_levels=4,
    sampler=LangevinSettings(steps_per_level=2),
)


@pytest.fixture(params=["diffcsp", "crysldm", "cdvae"])
def tiny(request, monkeypatch):
    """The name of a model whose preset is tiny and whose data are ten random crystals."""
    if request.param == "diffcsp":
        stage = replace(STAGE, optimiser="muon") if hasattr(torch.optim, "Muon") else STAGE
        chosen = Preset(DiffCSPConfig(network=NET, num_steps=10), (stage,))
    elif request.param == "cdvae":
        chosen = Preset(CDVAE, (STAGE,))
    else:
        config = CrysLDMConfig(
            autoencoder=AutoencoderConfig(latent_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2),
            network=CSPNetConfig(node_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4),
            num_steps=10,
        )
        vae = StageConfig("vae", epochs=2, batch_size=4, precision="32-true", validate_every=2)
        chosen = Preset(config, (vae, STAGE))
    monkeypatch.setattr(models.training, "find_preset", lambda *names: chosen)
    monkeypatch.setattr(models.training, "load_split", lambda dataset, split: crystals({"train": 0, "val": 1}[split]))
    monkeypatch.setattr(models.training, "split_hash", lambda dataset, split: f"hash of {split}")
    card = SimpleNamespace(num_atoms_probabilities=np.array([0, 0, 0.5, 0.5]))
    monkeypatch.setattr(models.training, "reference_card", lambda dataset: card)
    return request.param


def run(model, out, preset="cpu", **options):
    return train(model=model, dataset="perov5", preset=preset, out=out, device="cpu", compile_network=False, **options)


def checkpoint_of(out):
    return torch.load(out / "diffusion.ckpt", weights_only=False)


class StopAfter:
    """A clock that passes the deadline at a given reading."""

    def __init__(self, readings):
        self.left = readings

    def __call__(self):
        self.left -= 1
        return 0.0 if self.left > 0 else 1e9


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tiny, tmp_path, monkeypatch):
    whole = load_file(run(tiny, tmp_path / "whole"))
    logged = read_log(tmp_path / "whole", "diffusion")
    calls = 0
    for readings in (4, 4, 4, 4, 10**6):
        with monkeypatch.context() as patch:
            patch.setattr(models.training.time, "monotonic", StopAfter(readings))
            path = run(tiny, tmp_path / "parts", max_time=timedelta(seconds=5), resume=True)
        calls += 1
    assert calls > 1
    parts = load_file(path)
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name
    pd.testing.assert_frame_equal(read_log(tmp_path / "parts", "diffusion"), logged, check_like=True)


def test_a_stopped_run_says_so_in_its_card(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(models.training.time, "monotonic", StopAfter(4))
    path = run(tiny, tmp_path / "run", max_time=timedelta(seconds=5))
    assert read_weights(path)[1]["finished"] is False


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
        patch.setattr(models.training.time, "monotonic", StopAfter(4 if tiny == "crysldm" else 2))
        run(tiny, tmp_path / "run", max_time=timedelta(seconds=5), progress=progress)
    done = checkpoint_of(tmp_path / "run")["epoch"] + 1
    assert 0 < done < 4
    run(tiny, tmp_path / "run", resume=True, progress=progress)
    first, second = told[-2:]
    assert first == ("training diffusion", 4, "epochs", 0, [(1, 10)] * done)
    assert second == ("training diffusion", 4, "epochs", done, [(1, 10)] * (4 - done))


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


def test_two_trainings_do_not_share_a_folder(tiny, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with folder_lock(out), pytest.raises(ValueError, match="run is in use by process"):
        run(tiny, out)
    left = out / "diffusion.ckpt.1.tmp"
    left.touch()
    run(tiny, out)
    assert not left.exists()


def test_a_folder_with_a_run_is_not_overwritten(tiny, tmp_path):
    run(tiny, tmp_path / "run")
    with pytest.raises(ValueError, match="--resume"):
        run(tiny, tmp_path / "run")


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
    assert cards[1]["stages"][0]["warmup_steps"] == models.training.INIT_WARMUP_STEPS
    # Close to the start after one epoch, which fresh weights are not.
    assert all(torch.allclose(before[name], after[name], atol=0.01) for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_losses_may_weigh_otherwise_from_then_on(tiny, tmp_path, monkeypatch):
    first = run(tiny, tmp_path / "first")
    chosen = models.training.find_preset()
    heavier = tuple(2 * weight for weight in chosen.config.loss_weights)
    other = replace(chosen, config=replace(chosen.config, loss_weights=heavier))
    monkeypatch.setattr(models.training, "find_preset", lambda *names: other)
    second = run(tiny, tmp_path / "second", init=first, epochs=1)
    assert read_weights(second)[1]["config"]["loss_weights"] == list(heavier)


def test_weights_of_another_network_are_no_start(tiny, tmp_path):
    other = "diffcsp" if tiny == "crysldm" else "crysldm"
    with pytest.raises(ValueError, match=r"not the network of this preset \(differs in "):
        run(tiny, tmp_path / "run", init=find_weights(other, "perov5", "cpu"))


def test_a_weak_network_is_trained_on_the_latents_of_the_other(tiny, tmp_path, monkeypatch):
    if tiny == "cdvae":
        pytest.skip("its sampler takes no guidance")
    first = run(tiny, tmp_path / "first")
    chosen = models.training.find_preset()
    narrow = replace(chosen, config=replace(chosen.config, network=replace(chosen.config.network, hidden_dim=4)))
    monkeypatch.setattr(models.training, "find_preset", lambda *names: narrow)
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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, r"differs in seed\); repeat its arguments"),
        ({"preset": "cpu-weak"}, r"differs in preset\)"),
        ({"epochs": 1}, r"2 epochs are done already, more than the 1 asked for; give --epochs 2"),
    ],
)
def test_a_run_goes_on_as_it_began_or_not_at_all(tiny, tmp_path, changed, message):
    run(tiny, tmp_path / "run", epochs=2)
    with pytest.raises(ValueError, match=message):
        run(tiny, tmp_path / "run", resume=True, **changed)
    run(tiny, tmp_path / "run", resume=True, epochs=3)
    assert len(read_log(tmp_path / "run", "diffusion")["train_loss"].dropna()) == 3


def test_a_run_whose_stage_changed_does_not_go_on(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path / "run", epochs=1)
    chosen = models.training.find_preset()
    other = replace(chosen, stages=(*chosen.stages[:-1], replace(chosen.stages[-1], learning_rate=0.5)))
    monkeypatch.setattr(models.training, "find_preset", lambda *names: other)
    with pytest.raises(ValueError, match=r"differs in learning_rate of stage diffusion\)"):
        run(tiny, tmp_path / "run", resume=True)


def test_a_plateau_is_counted_in_epochs_and_resumes_exactly(tmp_path, monkeypatch, tiny):
    if tiny != "diffcsp":
        pytest.skip("one model is enough")
    stage = replace(STAGE, schedule="plateau", epochs=8, validate_every=1, learning_rate=0.1, ema_decay=0.0)
    chosen = replace(models.training.find_preset(), stages=(stage,))
    monkeypatch.setattr(models.training, "find_preset", lambda *names: chosen)
    monkeypatch.setattr(models.training, "PLATEAU_EPOCHS", 0)
    run(tiny, tmp_path / "whole")
    for readings in (4, 4, 4, 10**6):
        with monkeypatch.context() as patch:
            patch.setattr(models.training.time, "monotonic", StopAfter(readings))
            run(tiny, tmp_path / "parts", max_time=timedelta(seconds=5), resume=True)
    whole, parts = (checkpoint_of(tmp_path / name)["lr_schedulers"] for name in ("whole", "parts"))
    assert whole == parts
    assert whole[0]["_last_lr"][0] < stage.learning_rate


def test_a_plateau_waits_thirty_epochs_however_often_they_are_validated(tiny):
    stage = replace(STAGE, schedule="plateau", validate_every=10)
    buckets = pack(crystals(0))
    module = models.training.Stage(
        models.trainees.build(DiffCSPConfig(network=NET), 0), stage, buckets, buckets, 0, None
    )
    (schedule,) = module.configure_optimizers()[1]
    assert schedule["scheduler"].patience == 3


def test_what_stands_in_the_folder_of_a_run_and_is_damaged_is_named(tiny, tmp_path):
    run(tiny, tmp_path / "run", epochs=1)
    for name, message in (
        ("run.json", r"run\.json: damaged; remove it"),
        ("diffusion.ckpt", r"ckpt: not a checkpoint"),
    ):
        path = tmp_path / "run" / name
        whole = path.read_bytes()
        path.write_bytes(b"garbage")
        with pytest.raises(ValueError, match=message):
            run(tiny, tmp_path / "run", resume=True, epochs=2)
        path.write_bytes(whole)


def test_samples_are_scored_with_the_averaged_weights(tmp_path, monkeypatch, tiny):
    if tiny != "diffcsp":
        pytest.skip("one model is enough")
    seen = []

    def noted(self, model):
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return {"generated": 1.0}

    monkeypatch.setattr(models.training.SampledMetrics, "__call__", noted)
    path = run(tiny, tmp_path / "run", score=lambda sampled: {})
    averaged = load_file(path)  # those of the last epoch, which was scored
    assert len(seen) == 2
    assert all(torch.equal(seen[-1][key], averaged[key]) for key in averaged)


def test_a_held_learning_rate_does_not_depend_on_the_number_of_epochs_before_it_falls():
    held = replace(STAGE, schedule="hold", warmup_steps=10)
    assert [rate_factor(held, step, 1000) for step in range(700)] == [
        rate_factor(held, step, 2000) for step in range(700)
    ]
    assert rate_factor(held, 1000, 1000) == pytest.approx(0.01)
    assert rate_factor(held, 850, 1000) == pytest.approx(0.505)
    assert rate_factor(held, 0, 1000) == pytest.approx(1 / 11)


def test_the_cosine_ends_at_a_hundredth():
    factors = [rate_factor(STAGE, step, 100) for step in (0, 50, 100)]
    assert factors == pytest.approx([1.0, 0.505, 0.01])


def test_training_leaves_global_random_state_alone(tiny, tmp_path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    run(tiny, tmp_path / "run")
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_crystal_is_in_one_batch_of_its_size():
    buckets = pack(crystals(0))
    for epoch in range(3):
        epoch_batches = EpochBatches(buckets, STAGE, seed=0, epoch=epoch)
        taken = {k: [] for k in range(len(buckets))}
        for k, part in epoch_batches.plan:
            assert len(part) <= STAGE.batch_size + 1
            taken[k].extend(part.tolist())
        assert all(sorted(taken[k]) == list(range(len(bucket))) for k, bucket in enumerate(buckets))


def test_batches_of_large_crystals_are_smaller():
    big = pack(crystals(0, sizes=(20,) * 16))
    stage = StageConfig("diffusion", epochs=1, batch_size=16, max_pairs=1600)
    assert max(len(part) for _, part in EpochBatches(big, stage, 0, 0).plan) == 4


@pytest.mark.parametrize(("names", "message"), [(("gan", "perov5", "cpu"), "crysldm, diffcsp, cdvae"),
                                                (("crysldm", "carbon", "cpu"), "perov5, mp20"),
                                                (("crysldm", "perov5", "huge"), "cpu, cpu-weak, paper")])  # fmt: skip
def test_unknown_presets_list_the_known_ones(names, message):
    with pytest.raises(ValueError, match=message):
        preset(*names)


def test_paper_preset_has_the_published_sizes():
    config = preset("diffcsp", "perov5", "paper").config
    assert (config.network.hidden_dim, config.network.num_layers, config.network.num_frequencies) == (512, 6, 128)
    assert (config.num_steps, config.sampler.step_lr, config.loss_weights) == (1000, 1e-6, (1.0, 1.0, 20.0))
    assert preset("diffcsp", "mp20", "paper").config.sampler.step_lr == 5e-6
    assert preset("crysldm", "perov5", "paper").config.num_steps == 100


def test_cdvae_has_the_published_sizes_noise_and_optimiser():
    chosen = preset("cdvae", "perov5", "paper")
    config, stage = chosen.config, chosen.stages[0]
    assert (config.latent_dim, config.decoder.hidden_dim, config.decoder.num_blocks) == (256, 128, 3)
    assert (config.encoder.hidden_channels, config.encoder.num_blocks) == (128, 4)
    assert (config.num_levels, config.num_steps, config.kl_weight, config.teacher_forcing) == (50, 5000, 0.01, 0.5)
    assert (config.sigma_range, config.type_sigma_range) == ((10.0, 0.01), (5.0, 0.01))
    assert (stage.batch_size, stage.epochs, stage.learning_rate, stage.schedule) == (512, 3000, 1e-3, "plateau")
    assert (stage.clip_algorithm, stage.clip, stage.precision) == ("value", 0.5, "32-true")
    assert preset("cdvae", "mp20", "paper").stages[0].batch_size == 256


def test_cdvae_sees_the_predicted_cell_once_teacher_forcing_ends(monkeypatch):
    forced = []
    losses = models.trainees.CDVAE.losses

    def noted(self, batch, noise, teacher_forcing=True):
        forced.append(teacher_forcing)
        return losses(self, batch, noise, teacher_forcing)

    monkeypatch.setattr(models.trainees.CDVAE, "losses", noted)
    model = models.trainees.build(CDVAE, 0)
    batch = pack(crystals(0))[0]
    for progress in (0.0, 0.49, 0.5, 0.9):
        models.trainees.losses(model, "cdvae", batch, models.training.SeededNoise.from_seed(0, "cpu"), progress)
    assert forced == [True, True, False, False]


def test_cdvae_knows_the_training_cells_from_its_first_step(tmp_path):
    model = models.trainees.build(CDVAE, 0)
    models.trainees.fit_statistics(model, pack(crystals(0)))
    lengths = crystals(0).lattices[:, 0, :]
    expected = np.linalg.norm(lengths, axis=1) / crystals(0).num_atoms ** (1 / 3)
    assert float(model.lattice_mean[0]) == pytest.approx(expected.mean(), rel=1e-5)


def test_both_cpu_presets_share_the_network():
    latent, features = (preset(model, "perov5", "cpu").config.network for model in ("crysldm", "diffcsp"))
    assert replace(latent, node_dim=features.node_dim) == features
