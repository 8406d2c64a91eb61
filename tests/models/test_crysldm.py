"""CrysLDM: symmetries of autoencoder, losses and sampler; reconstruction; what Algorithm 2 promises."""

from dataclasses import replace

import pytest
import torch

from models.crysldm.autoencoder import Autoencoder, AutoencoderConfig
from models.crysldm.generator import crysldm
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.crysldm.sampler import LatentState, SamplerSettings, sample_latent
from models.cspnet import CSPNetConfig, EvaluationCounter
from models.denoiser import Denoiser
from models.dense import DenseBatch
from models.diffusion import SeededNoise, StepSchedule
from tests.random_crystals import dense_crystals
from tests.symmetry import TurnedNoise, random_rotation

AE = AutoencoderConfig(latent_dim=4, hidden_dim=24, num_layers=2, num_frequencies=6)
NET = CSPNetConfig(node_dim=4, hidden_dim=24, num_layers=2, num_frequencies=6, time_dim=10)
CONFIG = CrysLDMConfig(autoencoder=AE, network=NET, num_steps=20)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CrysLDM(CONFIG).double().eval()


def test_encoder_is_invariant_in_z_h_and_turns_z_lattice(model):
    batch, q = dense_crystals(), random_rotation(5)
    before = model.autoencoder.encode(batch)
    after = model.autoencoder.encode(replace(batch, lattices=batch.lattices @ q))
    torch.testing.assert_close(after.mean_h, before.mean_h)
    torch.testing.assert_close(after.log_sigma_h, before.log_sigma_h)
    torch.testing.assert_close(after.log_sigma_lattice, before.log_sigma_lattice)
    torch.testing.assert_close(after.mean_lattice, before.mean_lattice @ q)


def test_encoder_ignores_translations_and_whole_periods(model):
    batch = dense_crystals()
    before = model.autoencoder.encode(batch)
    moved = batch.frac_coords + torch.rand(4, 1, 3) + torch.randint(-2, 3, batch.frac_coords.shape)
    for a, b in zip(model.autoencoder.encode(replace(batch, frac_coords=moved)), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_decoder_is_invariant_in_types_and_turns_the_lattice(model):
    g = torch.Generator().manual_seed(3)
    z_h, z_l = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((4, 5, 4), (4, 3, 3)))
    x, q = dense_crystals().frac_coords, random_rotation(4)
    logits, lattice = model.autoencoder.decoder(z_h, x, z_l)
    turned_logits, turned_lattice = model.autoencoder.decoder(z_h, x + 0.3, z_l @ q)
    torch.testing.assert_close(turned_logits, logits, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(turned_lattice, lattice @ q, rtol=1e-8, atol=1e-8)


def test_decoder_permutes_with_the_atoms(model):
    g = torch.Generator().manual_seed(3)
    z_h, z_l = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((4, 5, 4), (4, 3, 3)))
    x, order = dense_crystals().frac_coords, torch.tensor([2, 0, 1, 4, 3])
    logits, lattice = model.autoencoder.decoder(z_h, x, z_l)
    after_logits, after_lattice = model.autoencoder.decoder(z_h[:, order], x[:, order], z_l)
    torch.testing.assert_close(after_logits, logits[:, order])
    torch.testing.assert_close(after_lattice, lattice)


@pytest.mark.parametrize("stage", ["vae", "diffusion"])
def test_losses_are_invariant_under_every_symmetry(model, stage):
    batch, q, order = dense_crystals(), random_rotation(7), torch.tensor([4, 2, 0, 1, 3])
    losses = model.autoencoder.losses if stage == "vae" else model.losses
    before = losses(batch, TurnedNoise(0))["loss"]
    moved = DenseBatch(
        batch.atomic_numbers[:, order],
        (batch.frac_coords + 0.37 + torch.randint(-1, 2, batch.frac_coords.shape))[:, order],
        batch.lattices @ q,
    )
    torch.testing.assert_close(losses(moved, TurnedNoise(0, q, order))["loss"], before, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("clamp", "min_volume"), [(None, None), ((1.0, 1.5), None), (None, 30.0)])
@pytest.mark.parametrize("latent_step", ["ancestral", "ddim"])
def test_samples_turn_and_permute_with_their_noise(model, clamp, min_volume, latent_step):
    settings = SamplerSettings(latent_step, "variance", step_size=0.1, clamp=clamp, min_volume=min_volume)
    model.config = replace(model.config, sampler=settings)
    q, order = random_rotation(8), torch.tensor([1, 0, 4, 3, 2])
    plain = model.sample(3, 5, TurnedNoise(1), 20)
    turned = model.sample(3, 5, TurnedNoise(1, q, order), 20)
    torch.testing.assert_close(turned.lattices, plain.lattices @ q, rtol=1e-5, atol=1e-5)
    assert torch.equal(turned.atomic_numbers, plain.atomic_numbers[:, order])
    apart = (turned.frac_coords - plain.frac_coords[:, order] + 0.5) % 1 - 0.5
    assert apart.abs().max() < 1e-5


def test_the_bound_on_volume_holds_for_the_last_cell(model):
    model.config = replace(model.config, sampler=SamplerSettings(min_volume=30.0))
    decoded = []
    model.autoencoder.decode = lambda z_h, x, z_lattice: decoded.append(z_lattice)
    model.sample(50, 5, SeededNoise.from_seed(1, "cpu", torch.float64), 20)
    volumes = torch.linalg.det(decoded[0] / model.lattice_std).abs() * model.volume_unit()
    assert volumes.min() > 0.999 * 30.0 * 5


@pytest.mark.parametrize("dataset", ["perov5", "mp20"])
def test_a_unit_of_latent_volume_is_that_of_a_crystal(dataset):
    generator = crysldm(dataset)
    generator.load("cpu")
    model = generator._model
    faces = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = DenseBatch(
        torch.tensor([[38, 22, 8, 8, 8]]),
        torch.tensor([[[0, 0, 0], [0.5, 0.5, 0.5], *faces]]),
        3.9 * torch.eye(3)[None],
    )
    latent = torch.linalg.det(model.autoencoder.encode(perovskite).mean_lattice / model.lattice_std).abs()
    assert float(latent) * model.volume_unit() == pytest.approx(3.9**3, rel=0.1)


def test_kl_divergence_is_zero_for_the_prior_alone(model):
    posterior = model.autoencoder.encode(dense_crystals())
    zeros = [torch.zeros_like(part) for part in posterior]
    assert float(type(posterior)(*zeros).kl_divergence()) == 0
    assert posterior.kl_divergence() > 0


def test_autoencoder_learns_to_reconstruct():
    torch.manual_seed(0)
    autoencoder = Autoencoder(replace(AE, hidden_dim=48))
    batch = dense_crystals(batch=16)
    batch = DenseBatch(batch.atomic_numbers, batch.frac_coords.float(), batch.lattices.float())
    noise = SeededNoise.from_seed(0, "cpu")
    optimiser = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    for _ in range(300):
        optimiser.zero_grad()
        autoencoder.losses(batch, noise)["loss"].backward()
        optimiser.step()
    with torch.no_grad():
        decoded = autoencoder.decode(*_sampled(autoencoder, batch, noise))
    assert torch.equal(decoded.atomic_numbers, batch.atomic_numbers)
    assert (decoded.lattices - batch.lattices).square().mean().sqrt() < 0.3  # Angstrom, cells of 4 A with 1 A spread


def _sampled(autoencoder, batch, noise):
    z_h, z_lattice = autoencoder.encode(batch).sample(noise)
    return z_h, batch.frac_coords, z_lattice


def test_latents_are_standardised_without_shifting_the_lattice(model):
    batches = [dense_crystals(), dense_crystals(3, 2)]
    noise = SeededNoise.from_seed(0, "cpu", torch.float64)
    model.standardise_latents(batches, noise)
    encoded = [model.encode(b, SeededNoise.from_seed(1, "cpu", torch.float64)) for b in batches]
    z_h = torch.cat([z.flatten(0, 1) for z, _ in encoded])
    assert z_h.mean(0).abs().max() < 0.2
    assert (z_h.std(0) - 1).abs().max() < 0.3
    z_l = torch.cat([z for _, z in encoded])
    assert float(z_l.square().mean().sqrt()) == pytest.approx(1, rel=0.1)


def test_algorithm_2_spends_two_evaluations_a_step(model):
    with EvaluationCounter(model.network) as counter:
        model.sample(2, 3, SeededNoise.from_seed(0, "cpu", torch.float64), 20)
    assert counter.per_crystal == 40


def test_without_a_corrector_a_step_costs_one_evaluation(model):
    model.config = replace(model.config, sampler=SamplerSettings(corrector="none"))
    with EvaluationCounter(model.network) as counter:
        model.sample(2, 3, SeededNoise.from_seed(0, "cpu", torch.float64), 20)
    assert counter.per_crystal == 20


def test_a_perfect_denoiser_leads_back_to_the_crystal(model):
    """With the true noise and score given to it, the sampler ends where the data is."""
    g = torch.Generator().manual_seed(0)
    clean_h = torch.randn(2, 3, 4, generator=g, dtype=torch.float64)
    clean_l = torch.randn(2, 3, 3, generator=g, dtype=torch.float64)
    clean_x = torch.rand(2, 3, 3, generator=g, dtype=torch.float64)
    from models.cspnet import CSPNetOutput
    from models.diffusion import wrapped_normal_score

    schedule, coords = model.gaussian, model.coords

    class Oracle:
        config = NET

        def __init__(self):
            self.calls = 0

        def __call__(self, z_h, x, z_l, features):
            t = schedule.num_steps - self.calls // 2
            self.calls += 1
            product, sigma = schedule.alphas_cumprod[t], coords.sigmas[t]
            spread = (1 - product).sqrt()
            score = -wrapped_normal_score(x - clean_x, sigma) / coords.score_norms[t].sqrt()
            return CSPNetOutput(
                (z_l - product.sqrt() * clean_l) / spread, score, (z_h - product.sqrt() * clean_h) / spread
            )

    noise = SeededNoise.from_seed(3, "cpu", torch.float64)
    start = LatentState(noise.normal("z", (2, 3, 4)), noise.uniform("x", (2, 3, 3)), noise.normal("l", (2, 3, 3)))
    settings = SamplerSettings(corrector="variance", step_size=0.1)
    steps = StepSchedule(schedule, coords, torch.arange(1, 21))
    end = sample_latent(Denoiser(Oracle()), start, steps, settings, noise)
    torch.testing.assert_close(end.z_h, clean_h, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(end.z_lattice, clean_l, rtol=1e-6, atol=1e-6)
    assert ((end.frac_coords - clean_x + 0.5) % 1 - 0.5).abs().max() < 0.02


def test_network_and_latent_of_different_width_are_refused():
    with pytest.raises(ValueError, match="latent has 4"):
        CrysLDM(replace(CONFIG, network=replace(NET, node_dim=8)))
