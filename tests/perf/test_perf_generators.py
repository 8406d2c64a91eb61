"""The main job's two models at their published steps: CrysLDM with T = 100 against DiffCSP with T = 1000, one thread.

Both `cpu` presets share the network's size, so the ratio is that of the evaluations (200 to 2000) and of what is done
beside them. Fresh weights: the cost of a step does not depend on them.
"""

import pytest

from models.diffusion import SeededNoise
from models.presets import preset

pytestmark = pytest.mark.usefixtures("one_thread")
CRYSTALS = 20


def sampler(name):
    model = preset(name, "perov5", "cpu").build(seed=0).eval()  # type: ignore[attr-defined]
    return lambda: model.sample(CRYSTALS, 5, SeededNoise.from_seed(0, "cpu"), model.config.num_steps)


@pytest.mark.benchmark(group="crysldm-vs-diffcsp")
def test_crysldm_100_steps(benchmark):
    benchmark.pedantic(sampler("crysldm"), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="crysldm-vs-diffcsp")
def test_diffcsp_1000_steps_reference(benchmark):
    benchmark.pedantic(sampler("diffcsp"), rounds=2)
