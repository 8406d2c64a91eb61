"""The ledger as it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.statistics import wilson
from reports.page.ledger_funnel import funnel
from reports.run_results import read_results
from tests.stored_crystal_runs import whole_run


def test_stable_unique_and_new_crystals_are_counted_as_generated_and_as_relaxed(make_run: Callable[..., Path]) -> None:
    (result,) = read_results([whole_run(make_run, {"crysldm": [0.0, 0.05, 0.3, None]})])
    rates = {"sun_rate": wilson(1, 4), "sun_rate_relaxed": wilson(2, 4)}
    counted = {step.meaning: step.crystals for step in funnel(replace(result, metrics=rates)).steps}
    assert counted["stable, unique and new at once, as generated"] == 1
    assert counted["stable, unique and new at once, as relaxed"] == 2
