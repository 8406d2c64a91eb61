"""CDVAE as a whole: what its latents say, its losses, Langevin steps, published folders and the generator."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch

from models.baselines.cdvae.autoencoder import CDVAE, CDVAEConfig, draw_types
from models.baselines.cdvae.encoder import EncoderConfig
from models.baselines.cdvae.gemnet import DecoderOutput, GemNetConfig
from models.baselines.cdvae.generator import cdvae, config_from_card
from models.baselines.cdvae.graph import Layout
from models.baselines.cdvae.langevin import LangevinSettings, annealed_langevin, steps_of_levels
from models.baselines.cdvae.official import from_official
from models.dense import DenseBatch
from models.diffusion import SeededNoise
from models.weights import save_weights

SMALL = CDVAEConfig(
    latent_dim=8,
    hidden_dim=8,
    max_atoms=6,
    encoder=EncoderConfig(8, 1, int_emb_size=4, basis_emb_size=4, out_emb_channels=8, num_spherical=3, num_radial=3),
    decoder=GemNetConfig(hidden_dim=16, latent_dim=8, num_blocks=1, emb_size_trip=8, num_radial=16),
    num_levels=4,
    sampler=LangevinSettings(steps_per_level=2),
)


def model(config=SMALL):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CDVAE(config).eval()


def cubes(count=6, n=3):
    g = torch.Generator().manual_seed(3)
    lattices = torch.eye(3) * (4 + torch.rand(count, 1, 1, generator=g))
    return DenseBatch(torch.randint(1, 90, (count, n), generator=g), torch.rand(count, n, 3, generator=g), lattices)


def noise(seed=0):
    return SeededNoise.from_seed(seed, "cpu")


def test_lattice_scaler_has_the_mean_and_spread_of_the_training_cells():
    net = model()
    batch = cubes()
    net.fit_lattice_scaler([batch])
    lengths = batch.lattices[:, 0, 0] / 3 ** (1 / 3)
    torch.testing.assert_close(net.lattice_mean, torch.cat([lengths.mean().expand(3), torch.full((3,), 90.0)]))
    # All angles are 90 degrees: their spread is not the rounding of an arc cosine.
    torch.testing.assert_close(net.lattice_std[3:], torch.full((3,), 0.01))
    lengths, angles = net.cell_parameters(torch.zeros(2, 6), torch.tensor([1, 8]))
    torch.testing.assert_close(lengths[1], 2 * lengths[0])
    assert (angles == 90).all()


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_losses_are_finite_and_reach_every_weight(teacher_forcing):
    net = model().train()
    net.fit_lattice_scaler([cubes()])
    g = torch.Generator().manual_seed(0)
    for block in net.encoder.output_blocks:  # their last layer starts at zero and would pass no gradient on
        torch.nn.init.normal_(block.lin.weight, std=0.1, generator=g)
    losses = net.losses(cubes(), noise(), teacher_forcing)
    weights = dict(zip(("num_atoms", "coord", "type", "lattice", "composition"), SMALL.loss_weights, strict=True))
    expected = sum(w * losses[name] for name, w in weights.items()) + SMALL.kl_weight * losses["kl"]
    torch.testing.assert_close(losses["loss"], expected)
    losses["loss"].backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.abs().max() > 0, name


def test_a_perfect_decoder_has_no_coordinate_loss():
    net, batch = model(), cubes()
    net.fit_lattice_scaler([batch])
    # At the smallest noise the nearest image is the right one, and the clean place is known.
    net.sigmas.fill_(0.05)

    class Perfect(torch.nn.Module):
        def forward(self, z, noisy, types, cells, layout):
            back = batch.frac_coords.reshape(-1, 3) - noisy
            back = ((back - back.round())[:, None] @ cells[layout.crystal])[:, 0]
            return DecoderOutput(back / 0.05, torch.zeros(len(types), 100))

    net.decoder = Perfect()
    assert float(net.losses(batch, noise())["coord"]) < 1e-6


def test_losses_are_a_function_of_the_noise_and_leave_global_randomness_alone():
    net = model()
    net.fit_lattice_scaler([cubes()])
    before = torch.random.get_rng_state()
    first, again, other = (net.losses(cubes(), noise(seed))["loss"] for seed in (1, 1, 2))
    assert first == again and first != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_crystals_larger_than_the_model_counts_are_refused():
    with pytest.raises(ValueError, match="max_atoms = 6"):
        model().losses(cubes(n=7), noise())


def test_training_lowers_the_loss():
    net = model().train()
    net.fit_lattice_scaler([cubes()])
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    history = []
    for step in range(60):
        loss = net.losses(cubes(), noise(step % 5))["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(net.parameters(), 0.5)
        optimizer.step()
        history.append(float(loss.detach()))
    assert np.mean(history[-5:]) < 0.7 * np.mean(history[:5])


def test_drawn_types_follow_the_composition_as_exactly_as_whole_atoms_can():
    composition = torch.zeros(2, 100)
    composition[0, [7, 21, 37]] = torch.tensor([0.6, 0.2, 0.2])  # O, Ti, Sr
    composition[1, [10, 16]] = torch.tensor([0.5, 0.5])
    drawn = draw_types(composition, torch.tensor([5, 4]), noise())
    assert sorted(drawn[:5].tolist()) == [8, 8, 8, 22, 38]
    assert sorted(drawn[5:].tolist()) == [11, 11, 17, 17]
    orders = {tuple(draw_types(composition, torch.tensor([5, 4]), noise(seed)).tolist()) for seed in range(20)}
    assert len(orders) > 5


def test_atoms_that_rounding_leaves_out_are_drawn_at_their_shares():
    composition = torch.zeros(1, 100)
    composition[0, :4] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    counts = np.zeros(5)
    for seed in range(400):
        counts[int(draw_types(composition, torch.tensor([1]), noise(seed))[0])] += 1
    np.testing.assert_allclose(counts[1:] / 400, [0.1, 0.2, 0.3, 0.4], atol=0.09)


@pytest.mark.parametrize("steps", [1, 3, 49, 50, 51, 120, 5000])
def test_steps_are_shared_among_the_levels_and_end_at_the_least_noise(steps):
    levels = steps_of_levels(50, steps)
    assert sum(repeats for _, repeats in levels) == steps
    assert [level for level, _ in levels] == sorted({level for level, _ in levels})
    assert levels[-1][0] == 49
    repeats = [count for _, count in levels]
    assert max(repeats) - min(repeats) <= 1


def test_no_steps_at_all_are_refused():
    with pytest.raises(ValueError, match="0 Langevin steps"):
        steps_of_levels(50, 0)


def test_langevin_dynamics_settles_where_the_decoder_points():
    target = torch.tensor([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
    lattices, sigmas = torch.eye(3)[None] * 4.0, torch.logspace(0, -2, 10)
    state = {"k": 0}

    def decoder(z, frac_coords, types, cells, layout):
        # The score of a normal around the target at the present noise, in units of 1 / sigma as the network gives it.
        sigma = sigmas[state["k"] // 30]
        state["k"] += 1
        apart = target - frac_coords
        logits = torch.zeros(2, 100)
        logits[:, 13] = 1.0
        return DecoderOutput((apart - apart.round()) * 4.0 / sigma, logits)

    layout, types = Layout.of(torch.tensor([2])), torch.tensor([1, 1])
    levels = steps_of_levels(10, 300)
    settings = LangevinSettings(step_size=1e-5)
    coords, types = annealed_langevin(
        decoder, torch.zeros(1, 1), types, lattices, layout, sigmas, levels, settings, noise()
    )
    apart = coords - target
    assert ((apart - apart.round()).abs() * 4.0 < 0.05).all()
    assert types.tolist() == [14, 14]


def published(folder, config, hparams=None):
    """A published checkpoint folder made of a model's own weights under their published names."""
    from tests.published_cdvae import published_state_dict

    folder.mkdir()
    net = model(config)
    torch.save({"state_dict": published_state_dict(net), "epoch": 3}, folder / "epoch=3-step=9.ckpt")
    (folder / "epoch=1-step=3.ckpt").write_bytes(b"an older one")
    torch.save(Scaler(net.lattice_mean, net.lattice_std), folder / "lattice_scaler.pt")
    torch.save(Scaler(torch.zeros(1), torch.ones(1)), folder / "prop_scaler.pt")
    (folder / "hparams.yaml").write_text(hparams or HPARAMS)
    return net


class Scaler:
    def __init__(self, means, stds):
        self.means, self.stds = means, stds


HPARAMS = """
data: {root_path: "${oc.env:PROJECT_ROOT}/data", readout: sum, lattice_scale_method: scale_length}
model:
  _target_: cdvae.pl_modules.model.CDVAE
  max_neighbors: 9
  radius: 5.5
  beta: 0.02
  cost_coord: 7
  encoder: {cutoff: 6.5, max_num_neighbors: 11, readout: "${data.readout}"}
"""


def test_a_published_folder_gives_the_model_it_was_made_from(tmp_path):
    ours = published(tmp_path / "perov", SMALL)
    read = from_official(tmp_path / "perov")
    assert read.config.decoder.radius == 5.5 and read.config.decoder.max_neighbors == 9
    assert read.config.encoder.cutoff == 6.5 and read.config.encoder.readout == "sum"
    assert read.config.kl_weight == 0.02 and read.config.loss_weights[1] == 7
    assert read.config.num_steps == 400
    for (name, a), b in zip(ours.state_dict().items(), read.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


HYDRA = """
data: {root_path: "${oc.env:PROJECT_ROOT}/data", readout: mean, lattice_scale_method: none, scaler: {a: [1, 2]}}
logging: {wandb: {mode: online}}
model:
  _target_: cdvae.pl_modules.model.CDVAE
  hidden_dim: 256
  radius: 6.5
  max_neighbors: 9
  encoder: {_target_: cdvae.pl_modules.gnn.DimeNetPlusPlusWrap, readout: "${data.readout}", cutoff: 6.0}
  decoder: {_target_: cdvae.pl_modules.decoder.GemNetTDecoder, radius: "${model.radius}", max_neighbors: 8}
optim: {optimizer: {_target_: torch.optim.Adam, betas: [0.9, 0.999]}}
"""


def test_hydra_settings_are_followed_and_those_of_a_part_come_first(tmp_path):
    published(tmp_path / "perov", SMALL, hparams=HYDRA)
    config = from_official(tmp_path / "perov").config
    assert config.decoder.radius == 6.5 and config.decoder.max_neighbors == 8
    assert config.encoder.readout == "mean" and config.encoder.cutoff == 6.0
    assert not config.scale_lengths


LAUGHS = "".join(f"  x{k}: &x{k} {{a: *x{k - 1}, b: *x{k - 1}, c: *x{k - 1}}}\n" for k in range(1, 40))


@pytest.mark.parametrize(
    ("hparams", "reason"),
    [
        ("model: {radius: [1, 2]}", None),  # not a plain value: the published one is taken
        (f"model:\n  x0: &x0 {{a: 1}}\n{LAUGHS}", None),
        ("model: &m {encoder: *m}", None),
        ("model: {max_neighbors: many}", "invalid literal for int"),
        ("model: {encoder: {cutoff: wide}}", "epoch=3-step=9.*could not convert"),
        ("model: {encoder: {readout: median}}", "'median' is not known"),
        ("model: " + "[" * 5000, "hparams.yaml cannot be read"),
        ("model: 3", "no section 'model'"),
    ],
    ids=["list", "laughs", "itself", "word", "type", "readout", "deep", "none"],
)
def test_odd_settings_are_passed_over_or_named(tmp_path, hparams, reason):
    ours = published(tmp_path / "perov", SMALL, hparams=hparams)
    if reason is None:
        assert from_official(tmp_path / "perov").config.decoder.radius == ours.config.decoder.radius
    else:
        with pytest.raises(ValueError, match=reason):
            from_official(tmp_path / "perov")


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def test_a_folder_that_would_run_code_runs_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    published(tmp_path / "bad", SMALL, hparams="model: !!python/object/apply:os.system ['touch exploded']")
    with pytest.raises(ValueError, match="hparams.yaml cannot be read"):
        from_official(tmp_path / "bad")
    (tmp_path / "bad" / "hparams.yaml").write_text(HPARAMS)
    torch.save(Bomb(), tmp_path / "bad" / "lattice_scaler.pt")
    with pytest.raises(ValueError, match="not a published scaler"):
        from_official(tmp_path / "bad")
    (tmp_path / "bad" / "epoch=9-step=1.ckpt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="epoch=9-step=1"):
        from_official(tmp_path / "bad")
    assert not (tmp_path / "exploded").exists()


def test_what_else_lies_in_a_published_folder_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    published(tmp_path / "perov", SMALL)
    path = tmp_path / "perov" / "epoch=3-step=9.ckpt"
    torch.save({**torch.load(path), "hyper_parameters": Bomb(), "callbacks": [Bomb()]}, path)
    torch.save(Bomb(), tmp_path / "perov" / "prop_scaler.pt")
    generator = cdvae("perov5", steps=2, weights=tmp_path / "perov")
    generator.load("cpu")
    assert generator.sample(num_crystals=2, seed=0).requested == 2
    assert not (tmp_path / "exploded").exists()


def test_a_published_folder_joins_a_run_by_its_name_and_place(tmp_path, capsys):
    from bench import cli

    published(tmp_path / "perov", SMALL)
    options = ["--dataset", "perov5", "--num-samples", "3", "--tasks", "validity", "--workers", "1", "--device", "cpu"]
    for arguments in (
        ["--models", f"theirs@2={tmp_path / 'perov'}", *options, "--out", str(tmp_path / "run")],
        ["--resume", str(tmp_path / "run")],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", *arguments])
        assert not ended.value.code
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["models"]["theirs@2"]
    assert found["requested"] == 3 and found["metrics"]["steps"]["value"] == 2
    card = json.loads((tmp_path / "run" / "manifest.json").read_text())["models"]["theirs@2"]["card"]
    assert sorted(card["sha256"]) == ["epoch=3-step=9.ckpt", "hparams.yaml", "lattice_scaler.pt"]
    assert "theirs@2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("theirs@0={}", "after @ comes a number of steps, such as theirs@100"),
        ("a/b={}", "use letters, digits"),
        ("theirs={}", "state_dict"),
    ],
)
def test_a_published_folder_that_cannot_be_run_is_refused_in_one_line(tmp_path, capsys, entry, reason):
    from bench import cli

    (tmp_path / "perov").mkdir()
    torch.save({"epoch": 1}, tmp_path / "perov" / "epoch=1.ckpt")
    options = ["--dataset", "perov5", "--num-samples", "3", "--tasks", "validity", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--models", entry.format(tmp_path / "perov"), *options])
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if reason in line]
    assert line


def test_a_model_without_weights_says_how_to_train_them():
    with pytest.raises(ValueError, match=r"bench train --model cdvae --dataset mp20 --preset paper"):
        cdvae("mp20", preset="paper")


@pytest.mark.parametrize("steps", [0, -3])
def test_fewer_than_one_step_is_refused(steps, tmp_path):
    with pytest.raises(ValueError, match=rf"cdvae@{steps}: steps must be at least 1"):
        cdvae("perov5", steps=steps, weights=tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no published checkpoint"):
        from_official(tmp_path)


def test_the_generator_repeats_itself_and_says_what_it_spent(tmp_path):
    card = {"config": dataclasses.asdict(SMALL)}
    net = model()
    net.num_atoms_head[-1].bias.data[[0, 3]] = 4.0  # so that some latents say "no atoms"
    net.lattice_mean += torch.tensor([2.5, 2.5, 2.5, 90, 90, 90])
    save_weights(tmp_path / "w.safetensors", net.state_dict(), card)
    generator = cdvae("perov5", steps=6, weights=tmp_path / "w.safetensors")
    generator.load("cpu")
    before = torch.random.get_rng_state()
    first, again, other = (generator.sample(num_crystals=30, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.crystals == again.crystals and first.crystals != other.crystals
    assert first.requested == 30 and first.steps == 6
    empty = [place for place, reason in first.reasons.items() if reason == "has no atoms"]
    assert empty and (first.network_evaluations[empty] == 0).all()
    assert (np.delete(first.network_evaluations, empty) == 6).all()
    assert set(first.crystals.num_atoms) == {3}


@pytest.mark.parametrize("broken", ["lattice_head", "composition_head", "decoder.type_logits"])
def test_what_a_network_makes_not_finite_is_a_reason_or_a_crystal_but_no_crash(broken):
    net = model()
    net.num_atoms_head[-1].bias.data[3] = 100.0
    net.lattice_mean += torch.tensor([2.5, 2.5, 2.5, 90, 90, 90])
    layer = net.get_submodule(broken)
    (layer[-1] if isinstance(layer, torch.nn.Sequential) else layer).bias.data.fill_(torch.nan)
    batch = net.sample_crystals(4, seed=0, steps=4)
    assert batch.requested == 4
    if broken == "lattice_head":
        assert all("lattice is not finite" in reason for reason in batch.reasons.values()) and len(batch.reasons) == 4
    else:
        assert len(batch.crystals) == 4


def test_the_card_gives_the_configuration_back():
    assert config_from_card(json.loads(json.dumps(dataclasses.asdict(SMALL)))) == SMALL
    assert config_from_card(dataclasses.asdict(CDVAEConfig())) == CDVAEConfig()
