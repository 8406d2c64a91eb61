"""The leaderboard: equal ranks where noise cannot tell models apart, one protocol, controls apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.run_results import read_results
from reports.tables.leaderboard import compose, render

MakeRun = Callable[..., Path]


def ranks(folders: list[Path], by: str | None = None) -> dict[str, str]:
    table = compose(read_results(folders), by)
    return {row[2].value: row[1].value for section in table.sections for row in section}


def test_ranks_count_the_models_that_are_better_beyond_noise(make_run: MakeRun) -> None:
    one = make_run({"good": {"stable": 300}, "as-good": {"stable": 290}}, name="one")
    other = make_run({"poor": {"stable": 20}, "poorest": {"stable": 18}}, name="other")
    assert ranks([other, one]) == {"good": "1", "as-good": "1", "poor": "3", "poorest": "3"}


def test_models_without_the_figure_come_last_and_controls_are_not_ranked(make_run: MakeRun) -> None:
    one = make_run({"a": {"stable": 30}, "shuffled-sites": {"stable": 500, "evaluations": 0.0}}, name="one")
    other = make_run({"b": {}}, name="other")
    assert ranks([one, other]) == {"a": "1", "b": "–", "shuffled-sites": "–"}


def test_the_metric_can_be_chosen_and_must_be_known(make_run: MakeRun) -> None:
    folder = make_run({"far": {"density": 2.0}, "near": {"density": 0.1}})
    assert ranks([folder], "emd_density") == {"near": "1", "far": "2"}
    with pytest.raises(ValueError, match="--by speed: known are .*emd_density"):
        ranks([folder], "speed")


def test_seconds_of_different_devices_are_not_ranked(make_run: MakeRun) -> None:
    one, other = (make_run({f"m{threads}": {}}, name=f"run{threads}", threads=threads) for threads in (1, 8))
    with pytest.raises(ValueError, match="different devices or threads"):
        ranks([one, other], "seconds_per_crystal")


def test_the_run_of_each_model_is_named_and_protocols_do_not_mix(make_run: MakeRun) -> None:
    one, other = make_run({"crysldm": {"stable": 3}}, name="one"), make_run({"crysldm": {"stable": 2}}, name="other")
    text = render([one, other])
    assert "CrysLDM  one" in text
    assert "CrysLDM  other" in text
    with pytest.raises(ValueError, match="different protocols"):
        render([one, make_run({"crysldm": {}}, name="third", smact="4.0.1")])


def test_runs_of_two_data_sets_are_ranked_apart_though_their_training_formulas_differ(make_run: MakeRun) -> None:
    one, other = (
        make_run({f"of-{dataset}": {"stable": 3}}, name=dataset, dataset=dataset, tasks=("validity", "novelty"))
        for dataset in ("perov5", "mp20")
    )
    for folder in (one, other):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["protocol"]["tasks"]["novelty"]["training_formulas"] = f"of {folder.name}"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert ranks([one, other]) == {"of-perov5": "1", "of-mp20": "1"}
