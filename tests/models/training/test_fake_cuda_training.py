"""A step of training on a CUDA device that is not there: losses, derivatives, clipping, optimiser and averaged weights.

Without mixed precision, which the fake device does not know, and without fused optimisers: launches are those of the
`foreach` kind.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import models.training.stage as stages
from models.dense import DenseBatch
from models.presets import preset
from models.training.optimiser import make_optimiser
from models.training.stage import Stage
from tests.fake_cuda import DEVICE, FOUND, FakeNoise, Record, fake_cuda, on_fake_cuda

pytestmark = pytest.mark.slow

# Kernels that start in a step, Muon's for every matrix of message passing on MP-20.
LAUNCHES = {
    ("crysldm", 0, "perov5"): 710,
    ("crysldm", 1, "perov5"): 720,
    ("crysldm", 1, "mp20"): 1100,
    ("diffcsp", 0, "perov5"): 630,
    ("cdvae", 0, "perov5"): 2900,
}
# torch's own count of averaged weights lies on the device, and the host looks at it. CDVAE's graphs have as many edges,
# and triplets of atoms, as there are neighbours.
AVERAGING = {"outside": 2}
CDVAE = "models/baselines/cdvae"
WAITS = {
    "cdvae": {
        f"{CDVAE}/graph.py:of": 6,
        f"{CDVAE}/graph.py:_true_places": 2,
        f"{CDVAE}/graph.py:neighbour_images": 2,
        f"{CDVAE}/graph.py:forward_edges": 1,
        f"{CDVAE}/angles.py:symmetric_graph": 2,
        f"{CDVAE}/encoder.py:forward": 1,
        f"{CDVAE}/encoder.py:triplets": 4,
    }
}
COPIES = {"cdvae": {f"{CDVAE}/graph.py:of": 2, f"{CDVAE}/cells.py:nearest_image": 1}}


def crystals(size: int, atoms: int, device: torch.device) -> DenseBatch:
    """A batch of equal crystals."""
    numbers = torch.ones(size, atoms, dtype=torch.long, device=device)
    cells = 4 * torch.eye(3, device=device).expand(size, 3, 3)
    return DenseBatch(numbers, torch.rand(size, atoms, 3, device=device), cells)


def a_step(name: str, number: int, dataset: str, monkeypatch: pytest.MonkeyPatch) -> Record:
    """What the second step of a stage does: the first one makes the optimiser's state."""
    monkeypatch.setattr(stages, "SeededNoise", SimpleNamespace(from_seed=lambda seed, device: FakeNoise()))
    monkeypatch.setattr(stages, "make_optimiser", lambda *given: make_optimiser(*given[:3], fused=False))
    chosen = preset(name, dataset, "cpu")
    config = chosen.stages[number]
    shape = (FOUND, 1) if name == "cdvae" else (4, 5)  # what shapes are made up must fit those that are not
    known = [crystals(*shape, torch.device("cpu"))]
    stage = Stage(chosen.build(0), config, known, known, 0, None)
    clip: Any = {"norm": torch.nn.utils.clip_grad_norm_, "value": torch.nn.utils.clip_grad_value_}
    with fake_cuda() as record:
        on_fake_cuda(stage)
        [optimiser], _ = stage.configure_optimizers()
        for group in optimiser.param_groups:
            group["foreach"] = True
        averaged = on_fake_cuda(AveragedModel(stage.trained, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)))
        for _ in range(2):
            for noted in (record.launches, record.waits, record.copies):
                noted.clear()
            loss = stage.training_step(crystals(*shape, DEVICE), 0)
            optimiser.zero_grad()
            loss.backward()
            clip[config.clip_algorithm](stage.trained.parameters(), config.clip)
            optimiser.step()
            averaged.update_parameters(stage.trained)  # type: ignore[operator]
    gradients = [parameter.grad for parameter in stage.trained.parameters()]
    assert all(gradient is None or gradient.device == DEVICE for gradient in gradients)
    assert sum(gradient is not None for gradient in gradients) > 0.9 * len(gradients)
    return record


@pytest.mark.parametrize(("name", "number", "dataset"), LAUNCHES)
def test_a_step_of_training_runs_on_the_device_alone_within_its_kernels(
    name: str, number: int, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = a_step(name, number, dataset, monkeypatch)
    assert Counter(step.waits) == Counter(AVERAGING) + Counter(WAITS.get(name, {}))
    assert dict(step.copies) == COPIES.get(name, {})
    assert 0.5 * LAUNCHES[name, number, dataset] < step.num_launches <= LAUNCHES[name, number, dataset]
