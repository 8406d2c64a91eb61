"""The conformance test for generators: nothing to say of ours and of sound ones, one line for each way to be broken."""

from __future__ import annotations

import csv
import functools
import itertools
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.crystals import Crystals
from bench.interfaces import SampleBatch
from bench.testing import check_generator, generator_faults
from tests.bench.fake_generators import Fake, NotFinite, random_crystals

ROOT = Path(__file__).parents[2]


class Sound:
    """Keeps the protocol; draws from torch as networks do."""

    name = "sound"

    def load(self, device: str) -> None:
        self.scale = 1.0

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        generator = torch.Generator().manual_seed(seed)
        lattices = (3 + self.scale * torch.rand(num_crystals, 1, 1, generator=generator)) * torch.eye(3)
        ones = np.ones(num_crystals, dtype=int)
        crystals = Crystals(ones, ones, np.zeros((num_crystals, 3)), lattices.double().numpy())
        return SampleBatch(crystals, 10, np.full(num_crystals, 20))


def sampled(num_crystals: int, seed: int, **changed: Any) -> SampleBatch:
    batch: dict[str, Any] = {
        "crystals": random_crystals(num_crystals, seed),
        "steps": 10,
        "network_evaluations": np.full(num_crystals, 20),
        **changed,
    }
    return SampleBatch(**batch)


class NoSample:
    name = "x"

    def load(self, device: str) -> None:
        pass


class NeedsArguments(Sound):
    def __init__(self, weights: Path) -> None:
        pass


class OtherNames(Sound):
    def sample(self, n: int, random_seed: int) -> SampleBatch:  # type: ignore[override]
        raise NotImplementedError


class LoadTakesNothing(Sound):
    def load(self) -> None:  # type: ignore[override]
        pass


class ClimbingName(Sound):
    name = "../../x"


class BatchOfNone(Sound):
    batch_size = 0


class CardOfWeights(Sound):
    def load(self, device: str) -> None:
        super().load(device)
        self.card = {"weights": np.zeros(3)}


class NoWeights(Sound):
    def load(self, device: str) -> None:
        raise FileNotFoundError("weights.pt is missing")


class LoadedOnce(Sound):
    """Uses its weights up."""

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        batch = super().sample(num_crystals, seed)
        del self.scale
        return batch


class NotANumber(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        crystals = random_crystals(num_crystals, seed)
        lattices = np.full((num_crystals, 3, 3), np.nan)
        return SampleBatch(
            Crystals(crystals.num_atoms, crystals.atomic_numbers, crystals.frac_coords, lattices),
            1,
            np.ones(num_crystals),
        )


class JustCrystals(Sound):
    def sample(self, num_crystals: int, seed: int) -> Any:
        return random_crystals(num_crystals, seed)


class WholeBatches(Sound):
    """Rounds up to its batch."""

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(8 * -(-num_crystals // 8), seed)


class OneEvaluationCount(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, seed, network_evaluations=np.array(20))


class FractionalSteps(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, seed, steps=1.5)


class StepsByChance(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, seed, steps=seed % 7)


class DeafToTheSeed(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, 0)


class SmallSeeds(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, int(np.int32(seed)))


class Chance(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, int.from_bytes(os.urandom(4), "little"))


class Memory(Sound):
    """Goes on with the stream of the call before."""

    def load(self, device: str) -> None:
        self.calls = itertools.count()

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, seed + next(self.calls))


class LooksAtGlobalState(Sound):
    """Depends on the global state without drawing from it."""

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        return sampled(num_crystals, (seed + torch.initial_seed()) % 2**32)


class SeedsNumpy(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        np.random.seed(seed)  # noqa: NPY002
        return sampled(num_crystals, int(np.random.randint(2**31)))  # noqa: NPY002


class SeedsPython(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        random.seed(seed)
        return sampled(num_crystals, seed)


class SeedsTorch(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        torch.manual_seed(seed)
        return sampled(num_crystals, int(torch.randint(2**31, ())))


class TakesAllCores(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        torch.set_num_threads(torch.get_num_threads() + 1)
        return super().sample(num_crystals, seed)


class WeightsByChance(Sound):
    """Untrained: every instance is another model."""

    def load(self, device: str) -> None:
        self.scale = float(np.random.default_rng().random())


class OneArray(Sound):
    """Counts evaluations in one array for all batches."""

    def load(self, device: str) -> None:
        self.counts = np.zeros(100)

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        self.counts[:] = 20 + seed
        return sampled(num_crystals, seed, network_evaluations=self.counts[:num_crystals])


class AllLost(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        reasons = dict.fromkeys(range(num_crystals), "the network gave NaN")
        return sampled(num_crystals, seed, crystals=Crystals.empty(), reasons=reasons)


class NoReason(Sound):
    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        reasons = {0: ""} if num_crystals > 1 else {}
        return sampled(
            num_crystals, seed, crystals=random_crystals(num_crystals, seed)[len(reasons) :], reasons=reasons
        )


BROKEN = {
    NoSample: "it has no sample",
    NeedsArguments: "it cannot be built: TypeError: ",
    OtherNames: "sample cannot be called as sample(num_crystals=1, seed=0): ",
    LoadTakesNothing: "load cannot be called as load('cpu'): ",
    ClimbingName: "name is '../../x': model name '../../x': use letters",
    BatchOfNone: "sound: batch_size is 0, not a whole number above 0",
    CardOfWeights: "card, which goes into the manifest, is not plain JSON",
    NoWeights: "load('cpu') raised FileNotFoundError: weights.pt is missing",
    LoadedOnce: "sample(num_crystals=4, seed=0) raised AttributeError: ",
    NotANumber: "not finite: [[nan, nan, nan], [nan, nan, nan], [nan, nan, nan]]; bench.crystals.filter_crystals sets",
    JustCrystals: "sample(num_crystals=4, seed=0) gave Crystals, not a bench.interfaces.SampleBatch",
    WholeBatches: "sample(num_crystals=4, seed=0) gave 8 crystals and reasons, not 4",
    OneEvaluationCount: "network_evaluations has shape (), but 4 crystals were asked for",
    FractionalSteps: "steps must be a whole number >= 0 or None, not 1.5",
    StepsByChance: "steps is 0 of one batch and 1 of the next",
    DeafToTheSeed: "seeds 0 and 1 give the same crystals: the seed is not used",
    SmallSeeds: "sample(num_crystals=1, seed=4294967295) raised OverflowError: ",
    Chance: "the same seed gives other crystals: there is chance or a memory",
    Memory: "the same seed gives other crystals: there is chance or a memory",
    LooksAtGlobalState: "the same seed gives other crystals when the global random state (",
    SeedsNumpy: "sample changes NumPy's global random state, which belongs to the whole process",
    SeedsPython: "sample changes Python's random state",
    SeedsTorch: "sample changes torch's global random state",
    TakesAllCores: "sample changes torch's number of threads",
    WeightsByChance: "built and loaded anew it gives other crystals for the same seed",
    OneArray: "network_evaluations of a batch changes after it was handed over",
    AllLost: "none of 4 crystals exists; the first reason: the network gave NaN",
    NoReason: "the reason of crystal 0 is ''; say in one line why there is none",
}


@pytest.mark.parametrize(("broken", "says"), BROKEN.items(), ids=[broken.__name__ for broken in BROKEN])
def test_each_way_to_be_broken_is_told_in_one_line(broken: type, says: str) -> None:
    threads = torch.get_num_threads()
    try:
        faults = generator_faults(broken)
    finally:
        torch.set_num_threads(threads)
    assert any(says in fault for fault in faults), faults
    assert not any("\n" in fault for fault in faults)
    follow_up = {Memory, Chance, WeightsByChance, SeedsNumpy, LooksAtGlobalState}  # one cause, more than one line
    assert len(faults) == 1 or broken in follow_up, faults


@pytest.mark.parametrize("make", [Sound, Fake, NotFinite, functools.partial(Sound)])
def test_sound_generators_pass(make: Any) -> None:
    check_generator(make)


def test_a_failing_check_names_the_generator_and_every_fault() -> None:
    with pytest.raises(AssertionError) as caught:
        check_generator(SeedsNumpy)
    assert str(caught.value).splitlines()[0] == "SeedsNumpy breaks the protocol of a generator:"


def test_the_check_itself_leaves_the_global_random_state_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    check_generator(Sound)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


@pytest.mark.parametrize("model", ["crysldm@3", "crysldm-as-written@3", "diffcsp@3"])
def test_our_own_models_pass(model: str) -> None:
    check_generator(model, num_crystals=3)


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_control_passes_with_training_crystals_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = random_crystals(20, seed=3)
    (tmp_path / "perov_5").mkdir()
    with open(tmp_path / "perov_5" / "train.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["cif"], *([crystal.to(fmt="cif")] for crystal in training)])
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    check_generator("independent-elements", num_crystals=3)


def test_at_the_command_line_faults_are_lines_and_the_exit_code_tells() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    command = [sys.executable, "-m", "bench.testing", "fake_generators:Fake", "fake_generators:Short"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "fake_generators:Fake: 0 faults",
        "fake_generators:Short: 1 faults",
        "sample(num_crystals=4, seed=0) gave 3 crystals and reasons, not 4",
    ]
