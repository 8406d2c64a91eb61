"""DiffCSP equals the published code: network, schedules, score and the whole sampler from recorded draws."""

import json
import os
from pathlib import Path

import pytest
import torch

from models.baselines.diffcsp.official import cspnet_from_official, from_official
from models.baselines.diffcsp.sampler import CrystalState, SamplerSettings, initial_state, sample_predictor_corrector
from models.denoiser import Denoiser
from models.dense import buckets
from models.diffusion import StepSchedule, cosine_schedule, exponential_sigmas, wrapped_normal_score

FOLDER = os.environ.get("BENCH_GOLDEN_DIR")
pytestmark = pytest.mark.needs_golden


def load(name):
    return torch.load(Path(FOLDER) / name, weights_only=True)


def by_size(num_atoms):
    """(N, crystals, atoms (B, N)) for each size among ragged crystals."""
    starts = torch.cat([torch.zeros(1, dtype=torch.long), num_atoms.cumsum(0)])
    for n, crystals in buckets(num_atoms.numpy()):
        yield n, torch.from_numpy(crystals), starts[torch.from_numpy(crystals)][:, None] + torch.arange(n)


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-9, 1e-9), (torch.float32, 1e-5, 1e-5)])
def test_dense_cspnet_gives_the_published_outputs(dtype, rtol, atol):
    fixture = load("diffcsp_cspnet.pt")
    assert fixture["config"]["dis_emb"] == "sin"
    network = cspnet_from_official(fixture["state_dict"], equivariant_lattice=fixture["config"]["ip"]).to(dtype)
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in fixture["inputs"].items()}
    for _, crystals, atoms in by_size(inputs["num_atoms"]):
        with torch.no_grad():
            out = network(
                inputs["atom_types"][atoms],
                inputs["frac_coords"][atoms],
                inputs["lattices"][crystals],
                inputs["time_embedding"][crystals],
            )
        expected = fixture["outputs"]
        for ours, theirs in (
            (out.lattice, expected["lattice"][crystals]),
            (out.coord, expected["coord"][atoms]),
            (out.node, expected["type"][atoms]),
        ):
            # relative to the size of the output, as 1e-5 in float32 is meant
            scale = theirs.abs().max()
            assert ((ours.double() - theirs).abs() <= atol * scale + rtol * theirs.abs()).all()


def test_schedules_equal_the_published_ones():
    fixture = json.loads((Path(FOLDER) / "diffcsp_schedules.json").read_text())
    lengths = [key for key in fixture if key.isdigit()]
    assert lengths
    for length in lengths:
        published = {k: torch.tensor(v, dtype=torch.float64) for k, v in fixture[length].items()}
        ours = cosine_schedule(int(length))
        sigmas = published["coord_sigmas"]
        begin, end = float(sigmas[1]), float(sigmas[-1])
        for mine, theirs in (
            (ours.betas, published["betas"]),
            (ours.alphas_cumprod, published["alphas_cumprod"]),
            (ours.posterior_sigmas, published["posterior_sigmas"]),
            (exponential_sigmas(int(length), begin, end), sigmas),
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-12)


def test_wrapped_normal_score_equals_the_published_gradient():
    for case in json.loads((Path(FOLDER) / "diffcsp_schedules.json").read_text())["score"]:
        x = torch.tensor(case["x"], dtype=torch.float64)
        # The published `d_log_p` has the sign of -d/dx log p: it is what their sampler subtracts.
        theirs = -torch.tensor(case["d_log_p"], dtype=torch.float64)
        ours = wrapped_normal_score(x, torch.tensor(case["sigma"], dtype=torch.float64))
        # Far from every image the published sum underflows to 0 / 0; ours stays finite.
        defined = theirs.isfinite()
        assert defined.any() and ours.isfinite().all()
        # Midway between two images the gradient changes sign over a rounding error of x.
        firm = defined & (((x % 1.0) - 0.5).abs() > 1e-9)
        torch.testing.assert_close(ours[firm], theirs[firm], rtol=1e-6, atol=1e-9 * float(theirs[firm].abs().max()))


class Replay:
    """Recorded draws in their published order, the rows of one bucket at a time."""

    def __init__(self, draws, crystals, atoms):
        self.draws, self.crystals, self.atoms = iter(draws), crystals, atoms

    def _next(self, kind, name, shape):
        recorded_kind, tensor = next(self.draws)
        assert recorded_kind.removesuffix("_like") == kind
        chosen = tensor[self.crystals] if name == "lattice" else tensor[self.atoms]
        assert chosen.shape == shape
        return chosen

    def normal(self, name, shape):
        return self._next("randn", name, shape)

    def uniform(self, name, shape):
        return self._next("rand", name, shape)


def test_replayed_draws_end_at_the_published_sample():
    fixture = load("diffcsp_sampler.pt")
    network, gaussian, coords = from_official(fixture["state_dict"])
    steps, num_types = fixture["config"]["timesteps"], network.config.node_dim
    settings = SamplerSettings(step_lr=fixture["config"]["step_lr"], sigma_begin=fixture["config"]["sigma_begin"])
    schedule = StepSchedule(gaussian, coords, torch.arange(1, steps + 1))
    final = fixture["final"]
    for n, crystals, atoms in by_size(fixture["num_atoms"]):
        noise = Replay(fixture["draws"], crystals, atoms)
        with torch.no_grad():
            start = initial_state(noise, len(crystals), n, num_types)
            end: CrystalState = sample_predictor_corrector(Denoiser(network), start, schedule, settings, noise)
        assert next(noise.draws, None) is None
        torch.testing.assert_close(end.types, final["atom_types"][atoms], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(end.lattices, final["lattices"][crystals], rtol=1e-8, atol=1e-8)
        apart = (end.frac_coords - final["frac_coords"][atoms] + 0.5) % 1.0 - 0.5  # 0.0 and 1.0 are one place
        assert apart.abs().max() <= 1e-8
