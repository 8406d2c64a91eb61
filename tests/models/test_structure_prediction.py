"""DiffCSP's crystal structure prediction: the composition is kept, lattice and places are as published."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.interfaces import Generator, StructurePredictor
from models.baselines.diffcsp.diffusion import DiffCSPConfig
from models.baselines.diffcsp.generator import diffcsp_csp, diffcsp_csp_fast
from models.baselines.diffcsp.official import cspnet_from_official
from models.baselines.diffcsp.sampler import SamplerSettings
from models.baselines.diffcsp.structure_prediction import StructurePrediction, predict_structures
from models.cspnet import CSPNetConfig
from models.dense import DenseBatch
from models.diffusion import SeededNoise, time_embedding, wrapped_normal_score
from models.presets import Preset, preset
from models.weights import save_weights
from tests.edge_list_cspnet import EdgeListCSPNet
from tests.random_crystals import dense_crystals
from tests.symmetry import TurnedNoise, random_rotation

NET = CSPNetConfig(hidden_dim=24, num_layers=2, num_frequencies=6, time_dim=10)
CONFIG = DiffCSPConfig(network=NET, num_steps=6, loss_weights=(1.0, 1.0, 0.0), sampler=SamplerSettings(step_lr=1e-5))
COMPOSITIONS = [np.array(numbers) for numbers in ([8, 22, 8, 56, 8], [11, 17], [3], [26, 26, 16, 16, 29], [17, 11])]


@pytest.fixture
def model():
    return Preset(StructurePrediction, CONFIG, ()).build(0).double().eval()  # type: ignore[attr-defined]


class RecordedNoise:
    """Draws of a seed, which a plain sampler can take again in the same order."""

    def __init__(self):
        self.source, self.draws = SeededNoise.from_seed(2, "cpu", torch.float64), []

    def normal(self, name, shape):
        self.draws.append(self.source.normal(name, shape))
        return self.draws[-1]

    def uniform(self, name, shape):
        self.draws.append(self.source.uniform(name, shape))
        return self.draws[-1]


def published_samples(model, types, draws):
    """The published sampler for given compositions, formula by formula, with edge lists. Jiao et al. 2023, Alg. 2."""
    draws = iter(draws)
    lattices, x = next(draws), next(draws)
    network, gaussian, coords = EdgeListCSPNet(model.network), model.gaussian, model.coords
    nodes = F.one_hot(types - 1, 100).double()
    for t in range(model.config.num_steps, 0, -1):
        features = time_embedding(torch.full((len(types),), float(t), dtype=torch.float64), 10)
        sigma, previous, scale = float(coords.sigmas[t]), float(coords.sigmas[t - 1]), coords.score_norms[t].sqrt()
        eps_l, eps_x = (next(draws), next(draws)) if t > 1 else (torch.zeros(1), torch.zeros(1))
        size = 1e-5 * (sigma / 0.005) ** 2
        x = x - size * scale * network(nodes, x, lattices, features).coord + (2 * size) ** 0.5 * eps_x
        eps_l, eps_x = (next(draws), next(draws)) if t > 1 else (torch.zeros(1), torch.zeros(1))
        out, gap = network(nodes, x, lattices, features), sigma**2 - previous**2
        x = (x - gap * scale * out.coord + (previous**2 * gap / sigma**2) ** 0.5 * eps_x) % 1.0
        alpha, bar = 1 - gaussian.betas[t], gaussian.alphas_cumprod[t]
        lattices = alpha**-0.5 * (lattices - (1 - alpha) / (1 - bar) ** 0.5 * out.lattice)
        lattices = lattices + gaussian.posterior_sigmas[t] * eps_l
    return x, lattices


def test_samples_are_those_of_the_published_formulas(model):
    types, noise = torch.tensor([[8, 22, 8], [3, 3, 17]]), RecordedNoise()
    found = model.sample(types, noise, CONFIG.num_steps)
    x, lattices = published_samples(model, types, noise.draws)
    torch.testing.assert_close(found.frac_coords, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.lattices, lattices, rtol=1e-8, atol=1e-8)
    assert torch.equal(found.atomic_numbers, types)


def test_losses_are_those_of_the_published_formulas(model):
    batch, noise, times = dense_crystals(), RecordedNoise(), torch.tensor([1, 3, 6, 4])
    losses = model.losses(batch, noise, times)
    eps_l, eps_x = noise.draws
    bar, sigma, norm = (
        values[times][:, None, None]
        for values in (model.gaussian.alphas_cumprod, model.coords.sigmas, model.coords.score_norms)
    )
    out = EdgeListCSPNet(model.network)(
        F.one_hot(batch.atomic_numbers - 1, 100).double(),
        (batch.frac_coords + sigma * eps_x) % 1.0,
        bar.sqrt() * batch.lattices + (1 - bar).sqrt() * eps_l,
        time_embedding(times.double(), 10),
    )
    # The published sign: the network is trained on minus the gradient.
    target = -wrapped_normal_score(sigma * eps_x, sigma) / norm.sqrt()
    lattice, coord = F.mse_loss(out.lattice, eps_l), F.mse_loss(out.coord, target)
    torch.testing.assert_close(losses["loss"], lattice + coord, rtol=1e-9, atol=1e-9)
    assert set(losses) == {"loss", "lattice", "coord"}


def test_the_output_for_types_gets_no_gradient(model):
    model.losses(dense_crystals(), SeededNoise.from_seed(0, "cpu", torch.float64))["loss"].backward()
    assert model.network.node_out.weight.grad is None
    assert model.network.node_embedding.weight.grad.abs().sum() > 0


def test_samples_turn_and_permute_with_their_noise(model):
    q, order = random_rotation(8), torch.tensor([1, 0, 4, 3, 2])
    types = torch.tensor([[8, 22, 8, 56, 8], [3, 3, 17, 9, 1]])
    plain = model.sample(types, TurnedNoise(1), 6)
    turned = model.sample(types[:, order], TurnedNoise(1, q, order), 6)
    torch.testing.assert_close(turned.lattices, plain.lattices @ q, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(turned.frac_coords, plain.frac_coords[:, order], rtol=1e-6, atol=1e-6)


def test_a_published_checkpoint_of_this_task_is_read(model):
    network = model.network
    names = {"edge_in": "edge_mlp.0", "edge_out": "edge_mlp.2", "node_in": "node_mlp.0", "node_out": "node_mlp.2",
             "norm": "layer_norm"}  # fmt: skip
    state = {"node_embedding.weight": (network.node_embedding.weight.T + network.node_embedding.bias).detach()}
    for key, value in network.trunk.layers.state_dict().items():
        layer, part, kind = key.split(".")
        state[f"csp_layer_{layer}.{names[part]}.{kind}"] = value
    for ours, theirs in (("time_mixing", "atom_latent_emb"), ("trunk.final_norm", "final_layer_norm"),
                         ("coord_out", "coord_out"), ("lattice_out", "lattice_out")):  # fmt: skip
        part = network.get_submodule(ours)
        state |= {f"{theirs}.{kind}": value for kind, value in part.state_dict().items()}
    read = cspnet_from_official({f"decoder.{key}": value for key, value in state.items()})
    batch, features = dense_crystals(), time_embedding(torch.arange(4).double(), 10)
    nodes = F.one_hot(batch.atomic_numbers - 1, 100).double()
    for found, expected in zip(*(net(nodes, batch.frac_coords, batch.lattices, features)[:2]
                                 for net in (read, network)), strict=True):  # fmt: skip
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def weights(tmp_path):
    """A tiny untrained network as `bench train` leaves one."""
    config = dataclasses.replace(preset("diffcsp-csp", "mp20", "cpu").config, network=NET, num_steps=12)
    path = tmp_path / "weights.safetensors"
    state = Preset(StructurePrediction, config, ()).build(0).state_dict()  # type: ignore[attr-defined]
    save_weights(path, state, {"config": dataclasses.asdict(config), "model": "diffcsp-csp", "dataset": "mp20"})
    return path


def made(weights, factory=diffcsp_csp_fast, steps=4):
    generator = factory("mp20", weights=weights, steps=steps)
    generator.load("cpu")
    return generator


@pytest.mark.parametrize("factory", [diffcsp_csp, diffcsp_csp_fast])
def test_each_composition_gets_a_crystal_in_its_order(weights, factory):
    generator = made(weights, factory)
    batch = generator.sample_given(compositions=COMPOSITIONS, seed=3)
    assert isinstance(generator, Generator)
    assert isinstance(generator, StructurePredictor)
    assert np.array_equal(batch.crystals.atomic_numbers, np.concatenate(COMPOSITIONS))
    assert batch.crystals.num_atoms.tolist() == [5, 2, 1, 5, 2]
    assert (batch.network_evaluations == (4 if factory is diffcsp_csp_fast else 8)).all()
    assert batch.steps == 4


def test_structures_are_a_function_of_compositions_and_seed(weights):
    generator = made(weights)
    first, again, other = (generator.sample_given(COMPOSITIONS, seed).crystals for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_network_that_gives_nan_leaves_a_reason_at_each_place(weights):
    generator = made(weights)
    with torch.no_grad():
        generator._diffusion.model.network.lattice_out.weight.fill_(float("nan"))
    batch = generator.sample_given(COMPOSITIONS, 0)
    assert sorted(batch.reasons) == [0, 1, 2, 3, 4]
    assert all("not finite" in reason for reason in batch.reasons.values())


@pytest.mark.parametrize(
    ("numbers", "message"),
    [([], "composition 1: must be a list"), ([0], "atomic number 0 is not in 1"), ([8, 101], "101 is not in 1 to 100")],
)
def test_what_is_no_composition_is_named(model, numbers, message):
    with pytest.raises(ValueError, match=message):
        predict_structures(model, [np.array([8]), np.array(numbers)], 0, 6)


def test_in_training_it_predicts_the_crystals_seen_last(model):
    seen = DenseBatch(torch.tensor([[8, 22, 8]]), torch.zeros(1, 3, 3), torch.eye(3)[None])
    model.stage_input("diffusion", [seen])
    batch = model.float().sample_in_training(3, 0, 100, np.array([1.0]))
    assert batch.crystals.atomic_numbers.tolist() == [8, 22, 8] * 3


def test_a_prediction_from_a_start_begins_at_it_with_the_noise_of_its_time(model):
    class NoNoise(RecordedNoise):
        def normal(self, name, shape):
            return torch.zeros(shape, dtype=torch.float64)

    inputs = []
    model.network.register_forward_pre_hook(lambda _, given: inputs.append(given))
    start = dense_crystals().take(torch.arange(2))
    model.sample(start.atomic_numbers, NoNoise(), 6, start=start)
    time = model.start_time
    assert time == 2  # 0.3 of 6 steps
    _, frac_coords, lattices, features = inputs[0]
    torch.testing.assert_close(frac_coords, start.frac_coords % 1.0)
    torch.testing.assert_close(lattices, start.lattices * model.gaussian.alphas_cumprod[time].sqrt())
    torch.testing.assert_close(features, time_embedding(torch.full((2,), float(time)).double(), 10))
    assert len(inputs) == 4  # corrector and predictor of both times up to there


def test_starts_reach_their_compositions_and_leave_the_others_to_noise(model):
    given, model = [np.array([11, 17]), np.array([3]), np.array([26, 16])], model.float()
    start = (np.zeros((2, 3)), 5 * np.eye(3))
    plain, begun = (predict_structures(model, given, 0, 4, starts=starts).crystals
                    for starts in (None, [start, None, None]))  # fmt: skip
    assert np.array_equal(begun.atomic_numbers, plain.atomic_numbers)
    others = predict_structures(model, given[1:], 0, 4).crystals  # the same draws, since those at noise come first
    assert begun[1:] == others
    assert begun[0] != plain[0]
