"""How many crystals show a difference, checked by simulation with the tests that the tables use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.commands.plan import Planned, plan
from bench.progress import format_seconds
from bench.sample_size import crystals_for_costs, crystals_for_difference, crystals_for_rates
from bench.statistics import cost_per_hit, differ, wilson
from bench.store import Run

TRIALS = 800
STORED = Path(__file__).parents[2] / "examples" / "runs" / "perov5.zip"
TOLERANCE = 0.05  # three standard errors of a share of 0.8 among so many trials, and a little


@pytest.mark.parametrize(("rate", "other"), [(0.3, 0.35), (0.3, 0.25), (0.07, 0.12), (0.97, 0.99), (0.5, 0.8)])
def test_as_many_crystals_as_are_planned_show_a_difference_of_rates_in_four_cases_of_five(
    rate: float, other: float
) -> None:
    n, rng = crystals_for_rates(rate, other), np.random.default_rng(0)
    found = sum(differ(wilson(rng.binomial(n, rate), n), wilson(rng.binomial(n, other), n)) for _ in range(TRIALS))
    assert found / TRIALS == pytest.approx(0.8, abs=TOLERANCE)


@pytest.mark.parametrize(("rate", "ratio"), [(0.3, 1.25), (0.1, 1.5)])
def test_and_of_the_costs_of_a_hit(rate: float, ratio: float) -> None:
    n, rng = crystals_for_costs(rate, ratio), np.random.default_rng(1)
    found = 0
    for _ in range(TRIALS):
        one, other = (cost_per_hit(n * 0.2, rng.binomial(n, p), n) for p in (rate, rate / ratio))
        found += differ(one, other)
    assert found / TRIALS == pytest.approx(0.8, abs=TOLERANCE + 0.03)  # costs are compared on a scale of their own


def test_more_power_smaller_differences_and_rates_near_a_half_take_more_crystals() -> None:
    assert crystals_for_difference(0.3, 0.05) == 1377
    assert crystals_for_difference(0.3, 0.05, power=0.9) > 1377
    assert crystals_for_difference(0.3, 0.02) > 6 * 1377
    assert crystals_for_difference(0.05, 0.05) < 1377
    assert crystals_for_difference(0.99, 0.05) == crystals_for_rates(0.99, 0.94)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (Planned(0.3), "needs --difference"),
        (Planned(1.3, 0.05), "--rate 1.3"),
        (Planned(0.3, 0.0), "--difference 0"),
        (Planned(0.5, 0.9), "no rate is so far from --rate 0.5"),
        (Planned(0.0, cost_ratio=2.0), "--rate 0"),
        (Planned(0.3, cost_ratio=1.0), "--cost-ratio 1"),
        (Planned(0.3, 0.05, power=0.01), "--power 0.01"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_option(asked: Planned, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        asked.sizes()


def test_device_time_by_a_stored_run_is_that_of_its_crystals() -> None:
    text = plan(Planned(0.3, 0.05), STORED, "", "perov5", "cpu", "cpu")
    assert "rates 5 percentage points apart, near 30 %: 1377 crystals of each model (--num-samples 1377)" in text
    each = Run.open(STORED).summary()["models"]["crysldm"]["metrics"]["seconds_per_crystal"]["value"]
    assert f"  crysldm: {format_seconds(1377 * each)} of device time" in text


def test_device_time_without_a_run_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(Planned(0.3, 0.2, cost_ratio=2.0), None, "crysldm@4,crysldm@2", "perov5", "cpu", "cpu")
    assert text.count("  crysldm@4: ") == text.count("  crysldm@2: ") == 2
    assert "predicted from a few crystals sampled now, perov5" in text
