"""The conformance test of `sample_given`: nothing to say of a sound one, one line for each way to be broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bench.arrays import IntArray
from bench.crystals import Crystals
from bench.interfaces import SampleBatch, StructurePredictor
from bench.testing import COMPOSITIONS, check_structure_predictor, predictor_faults
from tests.bench.fake_generators import Fake


class Sound(Fake):
    """Atoms anywhere in a cube."""

    name = "sound"

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        rng = np.random.default_rng(seed)
        sizes = np.array([len(numbers) for numbers in compositions])
        lattices = 4 * sizes[:, None, None] ** (1 / 3) * np.eye(3)
        crystals = Crystals(sizes, np.concatenate(compositions), rng.random((sizes.sum(), 3)), lattices)
        return SampleBatch(crystals, 10, np.full(len(sizes), 10))


class SortsThem(Sound):
    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        return super().sample_given(sorted(compositions, key=len), seed)


class Deaf(Sound):
    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        return super().sample_given(compositions, 0)


class Remembers(Sound):
    calls = 0

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        self.calls += 1
        return super().sample_given(compositions, seed + self.calls)


class GivesFewer(Sound):
    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        return super().sample_given(compositions[:-1], seed)


class OneSizeOnly(Sound):
    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        raise ValueError(f"{len({len(numbers) for numbers in compositions})} sizes in one batch")


def test_a_sound_predictor_has_no_fault() -> None:
    assert isinstance(Sound(), StructurePredictor)
    check_structure_predictor(Sound)


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (Fake, "fake predicts no structures"),
        (SortsThem, "of sample_given, crystal 0 is"),
        (Deaf, "the seed is not used"),
        (Remembers, "the same seed gives other crystals: there is chance or a memory"),
        (GivesFewer, f"gave {len(COMPOSITIONS) - 1} crystals and reasons, not {len(COMPOSITIONS)}"),
        (OneSizeOnly, "4 sizes in one batch"),
    ],
)
def test_each_way_to_be_broken_has_its_line(broken: Any, line: str) -> None:
    assert any(line in fault for fault in predictor_faults(broken))
    with pytest.raises(AssertionError, match="breaks the protocol of a structure predictor"):
        check_structure_predictor(broken)
