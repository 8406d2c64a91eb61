"""CDVAE at its published size, one thread: the periodic graph and a whole Langevin step against the plain decoder."""

import pytest
import torch

from models.baselines.cdvae.gemnet import DecoderOutput, GemNetConfig, GemNetT
from models.baselines.cdvae.graph import Layout
from models.baselines.cdvae.langevin import LangevinSettings, annealed_langevin
from models.diffusion import SeededNoise
from tests.plain_cdvae import PlainGemNetT
from tests.random_crystals import ragged_crystals

pytestmark = pytest.mark.usefixtures("one_thread")
# Crystals of 5 and of 20 atoms; both batches in one test.
BATCHES = ((32, 5), (16, 20))


class PlainDecoder(PlainGemNetT):
    def forward(self, *state):
        return DecoderOutput(*super().forward(*state))


def decoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GemNetT(GemNetConfig()).eval()


def crystals(batch, num_atoms):
    """(frac_coords, atomic_numbers, lattices, layout) of one batch."""
    _, x, numbers, lattices = ragged_crystals([num_atoms] * batch, seed=batch * num_atoms, dtype=torch.float32)
    return x, numbers, lattices, Layout.of(torch.full((batch,), num_atoms))


def graphs(network):
    """A function that makes the graphs of both batches, from coordinates to the polynomials of all angles."""
    states = [crystals(*size) for size in BATCHES]
    if isinstance(network, PlainGemNetT):
        return torch.no_grad()(lambda: [network.graph(x, cells, layout.num_atoms) for x, _, cells, layout in states])
    return torch.no_grad()(lambda: [network.graph(x, cells, layout) for x, _, cells, layout in states])


def step(network, sigma=0.5):
    """A function that takes one Langevin step with both batches, from the same random places."""
    states = [crystals(*size) for size in BATCHES]
    latents = [torch.randn(batch, 256, generator=torch.Generator().manual_seed(1)) for batch, _ in BATCHES]
    sigmas = torch.tensor([sigma, 0.01])

    def run():
        return [
            annealed_langevin(
                network,
                z,
                types,
                lattices,
                layout,
                sigmas,
                [(0, 1)],
                LangevinSettings(),
                SeededNoise.from_seed(0, "cpu"),
            )
            for z, (_, types, lattices, layout) in zip(latents, states, strict=True)
        ]

    return run


@pytest.mark.benchmark(group="cdvae-graph")
def test_periodic_graph(benchmark):
    ours, plain = graphs(decoder())(), graphs(PlainGemNetT(decoder()))()
    for mine, theirs in zip(ours, plain, strict=True):
        assert len(mine.sources) == len(theirs[0])
        torch.testing.assert_close(mine.distances.sum() * 2, theirs[2].sum())
    benchmark.pedantic(graphs(decoder()), rounds=30, warmup_rounds=3)


@pytest.mark.benchmark(group="cdvae-graph")
def test_periodic_graph_reference(benchmark):
    benchmark.pedantic(graphs(PlainGemNetT(decoder())), rounds=10, warmup_rounds=2)


@pytest.mark.benchmark(group="cdvae-step")
def test_langevin_step(benchmark):
    # Where the step is short: at sigma 10 it multiplies rounding errors by ten Angstrom.
    for (coords, types), (plain_coords, plain_types) in zip(
        step(decoder(), 0.02)(), step(PlainDecoder(decoder()), 0.02)(), strict=True
    ):
        apart = coords - plain_coords
        assert (apart - apart.round()).abs().max() <= 1e-4
        assert (types == plain_types).all()
    benchmark.pedantic(step(decoder()), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="cdvae-step")
def test_langevin_step_reference(benchmark):
    benchmark.pedantic(step(PlainDecoder(decoder())), rounds=4, warmup_rounds=1)
