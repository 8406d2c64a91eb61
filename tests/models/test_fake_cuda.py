"""Our models on a CUDA device that is not there: nothing stays on the CPU, and what makes the host wait is known.

What shapes depend on data, as of CDVAE's graphs, is made up; so launches are those of three edges, but as many kernels
start for any number. Derivatives need a torch that was built with CUDA; without, losses are tried without them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from bench.model_specs import build_generator, parse_models
from models.dense import DenseBatch
from models.presets import preset
from models.training.optimiser import make_optimiser
from tests.fake_cuda import FOUND, FakeNoise, Record, fake_cuda, on_fake_cuda

pytestmark = pytest.mark.slow

SIZE, ATOMS = 4, 5
SAMPLERS = ("crysldm", "crysldm-fast", "crysldm-guided", "diffcsp", "diffcsp-fast", "diffcsp-guided", "cdvae")
# Kernels that start in one step: with thousands of steps they, and not what they compute, are the time of a GPU.
LAUNCHES_A_STEP = {
    "crysldm": 310,
    "crysldm-fast": 145,
    "crysldm-guided": 170,
    "diffcsp": 300,
    "diffcsp-fast": 185,
    "diffcsp-guided": 205,
    "cdvae": 370,
}
# Where the host waits in a step. The bound on cells skips its work where no cell is flat, which pays on a CPU; on a GPU
# these two waits are the price. CDVAE's graph has as many edges as there are neighbours, which the host must know.
BOUND = {"models/bounds.py:bounded_volume": 2}
WAITS_A_STEP = {
    **dict.fromkeys(("crysldm-fast", "crysldm-guided", "diffcsp-fast", "diffcsp-guided"), BOUND),
    "cdvae": {
        "models/baselines/cdvae/angles.py:symmetric_graph": 2,
        "models/baselines/cdvae/graph.py:_true_places": 1,
        "models/baselines/cdvae/graph.py:neighbour_images": 1,
        "models/baselines/cdvae/graph.py:forward_edges": 1,
    },
}
# Constants that a step copies to the device anew.
COPIES_A_STEP = {
    "cdvae": {"models/baselines/cdvae/gemnet.py:radial": 2, "models/baselines/cdvae/graph.py:_cell_shifts": 1}
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
    assert dict(step.copies) == COPIES_A_STEP.get(name, {})
    assert 0.5 * LAUNCHES_A_STEP[name] < step.num_launches <= LAUNCHES_A_STEP[name]


STAGES = [("crysldm", 0), ("crysldm", 1), ("diffcsp", 0), ("cdvae", 0)]
# The times of a batch are looked up in tables that lie on the CPU; CDVAE's graphs as above.
WAITS_OF_LOSSES = {
    ("crysldm", 0): (),
    ("crysldm", 1): ("models/denoising_loss.py:denoising_losses",),
    ("diffcsp", 0): ("models/denoising_loss.py:denoising_losses",),
    ("cdvae", 0): ("models/baselines/cdvae/",),
}


def crystals(size: int, atoms: int) -> DenseBatch:
    """A batch on the fake device."""
    numbers = torch.ones(size, atoms, dtype=torch.long, device="cuda")
    return DenseBatch(numbers, torch.rand(size, atoms, 3, device="cuda"), torch.rand(size, 3, 3, device="cuda"))


@pytest.mark.parametrize(("name", "number"), STAGES)
@pytest.mark.parametrize("dataset", ["perov5", "mp20"])
def test_losses_and_the_optimisers_step_leave_nothing_on_the_cpu(name: str, number: int, dataset: str) -> None:
    chosen = preset(name, dataset, "cpu")
    stage = chosen.stages[number]
    model: Any = chosen.build(0)
    model.eval().requires_grad_(False)
    part = model.trained_part(stage.name)
    shape = (FOUND, 1) if name == "cdvae" else (SIZE, ATOMS)  # what shapes are made up must fit those that are not
    with fake_cuda() as record, torch.no_grad():
        on_fake_cuda(model)
        losses = model.stage_losses(stage.name, crystals(*shape), FakeNoise(), 0.5)
        waits = dict(record.waits)
        optimiser = make_optimiser(part, stage.optimiser, stage.learning_rate, fused=False)
        for parameter in part.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimiser.step()
    assert {loss.device.type for loss in losses.values()} == {"cuda"}
    allowed = WAITS_OF_LOSSES[name, number]
    assert not [place for place in waits if not place.startswith(allowed)]
    assert bool(waits) == bool(allowed)


def test_a_tensor_that_stayed_on_the_cpu_is_an_error() -> None:
    with fake_cuda(), pytest.raises(Exception, match=r"same device"):
        torch.ones(3, device="cuda") + torch.ones(3)


def test_a_value_that_the_host_reads_and_a_constant_that_it_sends_are_noted() -> None:
    with fake_cuda() as record:
        values = torch.rand(3, device="cuda")
        assert isinstance(float(values.sum()), float)
        assert values.cpu().device.type == "cpu"
        assert torch.arange(3).to("cuda").device.type == "cuda"
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
