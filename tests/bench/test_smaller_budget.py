"""A budget smaller than the run's, read off its store, against a run that really had it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_generators
import numpy as np
import pytest

from bench.budget import Budget, MonotonicClock
from bench.interfaces import SampleBatch
from bench.model_specs import parse_models
from bench.runner import Plan, run
from reports.run_results import read_results
from reports.yields.curves import YieldCurve
from reports.yields.stored import yield_curves

pytestmark = pytest.mark.usefixtures("fakes")


class Uneven(fake_generators.Fake):
    """Takes 0.2 s a crystal of a clock that nothing else moves, and 0 to 1 s more that the seed decides."""

    now = 0.0

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        type(self).now += 0.2 * num_crystals + np.random.default_rng(seed).random()
        return super().sample(num_crystals=num_crystals, seed=seed)


def curves(root: Path, seconds: float, monkeypatch: pytest.MonkeyPatch, repeats: int = 1) -> list[YieldCurve]:
    """Valid, and valid unique and novel, crystals by device seconds, of a run with that budget."""
    monkeypatch.setattr(Uneven, "now", 0.0)
    monkeypatch.setattr(fake_generators, "Fake", Uneven)
    options: dict[str, Any] = {"workers": 1, "device": "cpu", "threads": 1, "repeats": repeats}
    plan = Plan(parse_models("fake_generators:Fake"), "perov5", Budget(seconds=seconds), **options)
    run(plan, root, MonotonicClock(lambda: Uneven.now))
    return [curve for curve in yield_curves(read_results([root])[0]) if curve.axis == "seconds"]


def full_batches(curve: YieldCurve) -> int:
    """How many batches came before the first that was made smaller to fit."""
    crystals = curve.repeats[0].crystals
    return int(np.argmax(crystals < crystals[0])) if (crystals < crystals[0]).any() else len(crystals)


@pytest.mark.parametrize("seconds", [10.0, 23.0, 31.7, 50.0])
def test_it_counts_what_a_run_with_that_budget_counts_but_for_the_batches_made_to_fit(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = curves(tmp_path / "longer", 60.0, monkeypatch)
    shorter = curves(tmp_path / "shorter", seconds, monkeypatch)
    assert [curve.kind for curve in longer] == [curve.kind for curve in shorter] == ["valid", "vun"]
    for long, short in zip(longer, shorter, strict=True):
        whole, part = long.repeats[0], short.repeats[0]
        full = full_batches(short)
        np.testing.assert_array_equal(whole.hits[:full], part.hits[:full])
        np.testing.assert_allclose(whole.ends[:full], part.ends[:full])
        read_off = long.readings([seconds])[0]
        ended = whole.batches_by(seconds)
        assert full <= ended <= full + 1  # one more where it was quicker than predicted
        assert read_off.value == part.hits[:full].sum() + whole.hits[full:ended].sum()
        assert abs(part.crystals.sum() - read_off.n) < part.crystals[0]  # what a batch made to fit adds


def test_crystals_are_unique_in_the_order_in_which_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a duplicate of a later crystal counts for the smaller budget as it would have there."""
    [_, longer] = curves(tmp_path / "longer", 60.0, monkeypatch, repeats=2)
    [_, shorter] = curves(tmp_path / "shorter", 15.0, monkeypatch, repeats=2)
    for long, short in zip(longer.repeats, shorter.repeats, strict=True):
        full = int(np.argmax(short.crystals < 5)) if (short.crystals < 5).any() else len(short.crystals)
        assert full >= 5
        np.testing.assert_array_equal(long.hits[:full], short.hits[:full])
