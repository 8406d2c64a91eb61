"""Our models on a CUDA device that is not there: nothing stays on the CPU, and what makes the host wait is known.

What shapes depend on data, as of CDVAE's graphs, is made up; so launches are those of three edges, but as many kernels
start for any number.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from bench.model_specs import build_generator, parse_models
from tests.fake_cuda import DEVICE, FakeNoise, Record, fake_cuda, on_fake_cuda

pytestmark = pytest.mark.slow

SIZE, ATOMS = 4, 5
SAMPLERS = (
    "crysldm",
    "crysldm-fast",
    "crysldm-guided",
    "crysldm-autoguided",
    "diffcsp",
    "diffcsp-fast",
    "diffcsp-guided",
    "diffcsp-autoguided",
    "cdvae",
)
# Kernels that start in one step: with thousands of steps they, and not what they compute, are the time of a GPU.
LAUNCHES_A_STEP = {
    "crysldm": 310,
    "crysldm-fast": 145,
    "crysldm-guided": 170,
    "crysldm-autoguided": 230,
    "diffcsp": 300,
    "diffcsp-fast": 185,
    "diffcsp-guided": 205,
    "diffcsp-autoguided": 280,
    "cdvae": 370,
}
# Where the host waits in a step. The bound on cells skips its work where no cell is flat, which pays on a CPU; on a GPU
# these two waits are the price. CDVAE's graph has as many edges as there are neighbours, which the host must know.
BOUND = {"models/bounds.py:bounded_volume": 2}
WAITS_A_STEP = {
    **dict.fromkeys((name for name in SAMPLERS if "-" in name), BOUND),
    "cdvae": {
        "models/baselines/cdvae/angles.py:symmetric_graph": 2,
        "models/baselines/cdvae/graph.py:_true_places": 1,
        "models/baselines/cdvae/graph.py:neighbour_images": 1,
        "models/baselines/cdvae/graph.py:forward_edges": 1,
    },
}


def a_step(name: str) -> Record:
    """What a step of a sampler does: the difference of a longer and a shorter trajectory, for each step."""
    [spec] = parse_models(name)
    generator: Any = build_generator(spec, "perov5", "cpu")
    generator.load("cpu")
    model = generator._model
    records, lengths = [], (50, 100) if name == "cdvae" else (3, 5)
    with fake_cuda() as record:
        on_fake_cuda(model)
        for steps in lengths:
            for noted in (record.launches, record.waits, record.copies):
                noted.clear()
            if name == "cdvae":
                model.sample(SIZE, FakeNoise(), steps)
            else:
                model.sample(SIZE, ATOMS, FakeNoise(), steps)
            records.append(Record(Counter(record.launches), Counter(record.waits), Counter(record.copies)))
    few, more = records
    gap = lengths[1] - lengths[0]

    def each(longer: Counter[str], shorter: Counter[str]) -> Counter[str]:
        return Counter({key: round((n - shorter[key]) / gap) for key, n in longer.items() if n != shorter[key]})

    return Record(each(more.launches, few.launches), each(more.waits, few.waits), each(more.copies, few.copies))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_of_a_sampler_runs_on_the_device_alone_within_its_kernels(name: str) -> None:
    step = a_step(name)
    assert dict(step.waits) == WAITS_A_STEP.get(name, {})
    assert not step.copies
    assert 0.5 * LAUNCHES_A_STEP[name] < step.num_launches <= LAUNCHES_A_STEP[name]


def test_a_tensor_that_stayed_on_the_cpu_is_an_error() -> None:
    with fake_cuda(), pytest.raises(Exception, match=r"same device"):
        torch.ones(3, device=DEVICE) + torch.ones(3)


def test_a_value_that_the_host_reads_and_a_constant_that_it_sends_are_noted() -> None:
    with fake_cuda() as record:
        values = torch.rand(3, device=DEVICE)
        assert isinstance(float(values.sum()), float)
        assert values.cpu().device.type == "cpu"
        assert torch.arange(3).to(DEVICE).device == DEVICE
        assert len(values[values > 0]) == 3
    assert sum(record.waits.values()) == 3
    assert sum(record.copies.values()) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: make gpu")
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_run_on_a_real_gpu(name: str) -> None:
    [spec] = parse_models(name)
    generator = build_generator(spec, "perov5", "cpu")
    generator.load("cuda")
    batch = generator.sample(num_crystals=8, seed=0)
    assert batch.requested == 8
    assert len(batch.crystals) >= 4
