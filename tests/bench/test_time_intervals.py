"""Coverage of the intervals of times, by simulation with the spread of real batches."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.statistics import Metric, differ, seconds_per_crystal
from bench.store import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
TRIALS = 600
FEWEST = 10  # batches of a stored run whose spread is told

FloatArray = NDArray[np.float64]


@functools.cache
def real_batches() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of stored runs: each one's spread of log seconds a crystal, how far its first batch was off, and all residuals.

    Residuals are in units of their run's spread, all runs together.
    """
    spreads, firsts, residuals = [], [], []
    runs = [Run.open(archive) for archive in sorted(EXAMPLES.rglob("*.zip"))]
    for batches in [folder.batches for run in runs for model in run.models for folder in run.folders(model)]:
        whole = [batch for batch in batches if batch.num_crystals == batches[0].num_crystals]
        if len(whole) < FEWEST or not whole[0].network_evaluations:
            continue
        logs = np.log([(batch.end_s or 0.0) - (batch.start_s or 0.0) for batch in whole])
        rest = logs[1:] - logs[1:].mean()
        spreads.append(rest.std(ddof=1))
        firsts.append(logs[0] - logs[1:].mean())
        residuals.extend(rest / spreads[-1])
    assert len(spreads) >= 10
    return np.array(spreads), np.array(firsts), np.array(residuals)


def simulated(batches: int, drift: bool) -> tuple[float, float]:
    """How often the interval of that many batches covers the true time, and how often two equal models differ."""
    spreads, firsts, residuals = real_batches()
    rng = np.random.default_rng(batches)
    covered = false = 0
    for trial in range(TRIALS):
        place = rng.integers(len(spreads))
        spread, first = spreads[place], firsts[place] if drift else 0.0

        def measured(spread: float = spread, first: float = first, trial: int = trial) -> Metric:
            logs = spread * rng.choice(residuals, batches)
            logs[0] += first
            return seconds_per_crystal(50 * np.exp(logs), [50] * batches, trial)

        true = np.exp(spread * residuals).mean() * (batches - 1 + np.exp(first)) / batches
        one, other = measured(), measured()
        assert one.low is not None
        assert one.high is not None
        covered += one.low <= true <= one.high
        false += differ(one, other)
    return covered / TRIALS, false / TRIALS


@pytest.mark.parametrize("batches", [2, 3, 5, 10, 20])
@pytest.mark.parametrize("drift", [False, True], ids=["steady", "slow or fast at first"])
def test_intervals_of_times_cover_as_often_as_they_say_and_equal_models_seldom_differ(
    batches: int, drift: bool
) -> None:
    covered, false = simulated(batches, drift)
    assert covered >= 0.915  # 95 % less three standard errors of the simulation and a little for skewed batches
    assert false <= 0.075
