"""DiffCSP: symmetries of loss and sampler, remedies that change nothing when not needed, hostile checkpoints."""

import os
import pickle
from dataclasses import replace

import pytest
import torch

from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.baselines.diffcsp.official import cspnet_from_official, from_official
from models.baselines.diffcsp.sampler import SamplerSettings
from models.cspnet import CSPNetConfig
from models.dense import DenseBatch
from models.diffusion import SeededNoise
from tests.random_crystals import dense_crystals
from tests.symmetry import TurnedNoise, random_rotation

NET = CSPNetConfig(node_dim=100, hidden_dim=24, num_layers=2, num_frequencies=6, time_dim=10)
CONFIG = DiffCSPConfig(network=NET, num_steps=20)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DiffCSP(CONFIG).double().eval()


def test_loss_is_invariant_under_every_symmetry(model):
    batch, q, order = dense_crystals(), random_rotation(7), torch.tensor([4, 2, 0, 1, 3])
    before = model.losses(batch, SeededNoise.from_seed(0, "cpu", torch.float64))["loss"]
    moved = DenseBatch(
        batch.atomic_numbers[:, order],
        (batch.frac_coords + 0.37 + torch.randint(-1, 2, (4, 5, 3)))[:, order],
        batch.lattices @ q,
    )
    torch.testing.assert_close(model.losses(moved, TurnedNoise(0, q, order))["loss"], before, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("min_volume", [None, 30.0])
def test_samples_turn_and_permute_with_their_noise(model, min_volume):
    q, order = random_rotation(8), torch.tensor([1, 0, 4, 3, 2])
    model.config = replace(model.config, sampler=SamplerSettings(clamp=(10.0, 2.0), min_volume=min_volume))
    plain = model.sample(3, 5, TurnedNoise(1), 20)
    turned = model.sample(3, 5, TurnedNoise(1, q, order), 20)
    torch.testing.assert_close(turned.lattices, plain.lattices @ q, rtol=1e-5, atol=1e-5)
    assert torch.equal(turned.atomic_numbers, plain.atomic_numbers[:, order])


def test_the_bound_on_volume_holds_for_the_last_cell(model):
    model.config = replace(model.config, sampler=SamplerSettings(clamp=(60.0, 3.0), min_volume=30.0))
    last = model.sample(50, 5, SeededNoise.from_seed(1, "cpu", torch.float64), 20)
    assert torch.linalg.det(last.lattices).abs().min() > 0.999 * 30.0 * 5


def test_a_clamp_out_of_reach_changes_nothing(model):
    samples = []
    for clamp in (None, (1e12, 1e12)):
        model.config = replace(model.config, sampler=SamplerSettings(clamp=clamp))
        samples.append(model.sample(3, 5, SeededNoise.from_seed(1, "cpu", torch.float64), 20))
    torch.testing.assert_close(samples[0].lattices, samples[1].lattices, rtol=1e-6, atol=1e-6)
    assert torch.equal(samples[0].atomic_numbers, samples[1].atomic_numbers)


def official_state(config=NET):
    """A state dict with the published names and random weights."""
    h, width = config.hidden_dim, 2 * config.hidden_dim + 9 + 6 * config.num_frequencies
    shapes = {"node_embedding": (h, 100), "atom_latent_emb": (h, h + config.time_dim), "type_out": (100, h)}
    state = {}
    for name, shape in shapes.items():
        state |= {f"decoder.{name}.weight": torch.randn(shape), f"decoder.{name}.bias": torch.randn(shape[0])}
    for k in range(config.num_layers):
        for part, columns in (("edge_mlp.0", width), ("edge_mlp.2", h), ("node_mlp.0", 2 * h), ("node_mlp.2", h)):
            stem = f"decoder.csp_layer_{k}.{part}"
            state |= {f"{stem}.weight": torch.randn(h, columns), f"{stem}.bias": torch.randn(h)}
        state |= {f"decoder.csp_layer_{k}.layer_norm.{w}": torch.randn(h) for w in ("weight", "bias")}
    state |= {f"decoder.final_layer_norm.{w}": torch.randn(h) for w in ("weight", "bias")}
    state |= {"decoder.coord_out.weight": torch.randn(3, h), "decoder.lattice_out.weight": torch.randn(9, h)}
    for name in ("betas", "alphas", "alphas_cumprod", "sigmas"):
        state[f"beta_scheduler.{name}"] = torch.rand(21)
    return state | {f"sigma_scheduler.{name}": torch.rand(21) for name in ("sigmas", "sigmas_norm")}


class Payload:
    """Runs a command when it is unpickled by the ordinary pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_published_checkpoint_file_is_read_without_running_its_code(tmp_path):
    proof = tmp_path / "proof"
    checkpoint = {"state_dict": official_state(), "hyper_parameters": {"scaler": Payload(proof)}, "epoch": 3}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    network, gaussian, coords = from_official(tmp_path / "last.ckpt")
    assert not proof.exists()
    assert network.config == NET
    assert len(gaussian.betas) == len(coords.sigmas) == 21
    pickle.loads(pickle.dumps(Payload(proof)))  # the payload is a real one
    assert proof.exists()


@pytest.mark.parametrize("content", [b"", b"rubbish" * 100, pickle.dumps({"state_dict": 3})])
def test_what_is_no_checkpoint_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad.ckpt") as caught:
        from_official(path)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_kind_is_refused():
    state = official_state()
    state["decoder.edge_distance.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match="edge_distance"):
        cspnet_from_official(state)
    with pytest.raises(ValueError, match="type_out"):
        cspnet_from_official({k: v for k, v in state.items() if "type_out" not in k})
