"""Budgets of real runs on a quiet machine: how late they end, and what recording takes beside sampling."""

from __future__ import annotations

import pytest

from tests.perf.budget_runs import budget_runs


@pytest.mark.nightly
def test_ten_budgets_of_a_minute_end_less_than_three_percent_late_and_recording_takes_less_than_one() -> None:
    found = list(budget_runs(10, "60s", "crysldm,diffcsp", threads=2))
    assert len(found) == 20
    for run in found:
        assert run.late < 0.03, run
        assert run.recorded < 0.01, run
        assert run.counted > 0.7 * run.budget, run  # one long batch may be lost, no more
