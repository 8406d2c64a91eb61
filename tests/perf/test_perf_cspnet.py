"""One predictor-corrector step of DiffCSP: the dense CSPNet against the plain edge lists, one thread.

The ratio grows with the batch, since edges in blocks stay in the cache and edge lists do not. At `cpu` size it was 2.1
for 50 crystals, 2.4 to 2.5 for 512 and 3.4 to 3.7 for 1000, the paper's number of samples, which is timed here.
"""

import pytest
import torch

from models.baselines.diffcsp.sampler import SamplerSettings, initial_state, sample_predictor_corrector
from models.cspnet import CSPNet, CSPNetConfig
from models.denoiser import Denoiser
from models.diffusion import SeededNoise, StepSchedule, coord_schedule, cosine_schedule, strided_times
from models.presets import preset
from tests.edge_list_cspnet import EdgeListCSPNet

pytestmark = pytest.mark.usefixtures("one_thread")
PAPER = CSPNetConfig()
CPU = preset("diffcsp", "perov5", "cpu").config.network


def step(config, plain, batch, num_atoms):
    """A function that runs one predictor-corrector step (two evaluations) from the prior."""
    torch.manual_seed(0)
    dense = CSPNet(config).eval()
    network = EdgeListCSPNet(dense) if plain else dense
    times = strided_times(1000, 1)
    schedule = StepSchedule(cosine_schedule(1000).take(times), coord_schedule(1000).take(times), times)
    state = initial_state(SeededNoise.from_seed(0, "cpu"), batch, num_atoms, config.node_dim)

    @torch.no_grad()
    def run():
        noise = SeededNoise.from_seed(1, "cpu")
        return sample_predictor_corrector(Denoiser(network), state, schedule, SamplerSettings(), noise)

    return run


def check_equal(config, batch, num_atoms):
    ours, plain = (step(config, p, batch, num_atoms)() for p in (False, True))
    # One step at T multiplies rounding errors by 1 / sqrt(alpha_T): relative to the size of the output.
    for a, b in ((ours.types, plain.types), (ours.lattices, plain.lattices)):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.benchmark(group="cspnet-paper-n5")
def test_dense_paper_n5(benchmark):
    check_equal(PAPER, 8, 5)
    benchmark.pedantic(step(PAPER, False, 64, 5), rounds=7, warmup_rounds=1)


@pytest.mark.benchmark(group="cspnet-paper-n5")
def test_edge_list_reference_paper_n5(benchmark):
    benchmark.pedantic(step(PAPER, True, 64, 5), rounds=7, warmup_rounds=1)


@pytest.mark.benchmark(group="cspnet-paper-n20")
def test_dense_paper_n20(benchmark):
    check_equal(PAPER, 2, 20)
    benchmark.pedantic(step(PAPER, False, 16, 20), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="cspnet-paper-n20")
def test_edge_list_reference_paper_n20(benchmark):
    benchmark.pedantic(step(PAPER, True, 16, 20), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="cspnet-cpu-n5")
def test_dense_cpu_n5(benchmark):
    check_equal(CPU, 8, 5)
    benchmark.pedantic(step(CPU, False, 1000, 5), rounds=9, warmup_rounds=2)


@pytest.mark.benchmark(group="cspnet-cpu-n5")
def test_edge_list_reference_cpu_n5(benchmark):
    benchmark.pedantic(step(CPU, True, 1000, 5), rounds=9, warmup_rounds=2)
