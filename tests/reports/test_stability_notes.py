"""What Table 1 says of its stability: the potential's measured error, and what a second potential says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from reports.tables.table1 import render

MakeRun = Callable[..., Path]
TASKS = ("validity", "properties", "stability")
ERROR = {
    "measured_on": "generated crystals",
    "crystals": 300,
    "stable_below_ev_per_atom": 0.1,
    "hull": "hull of chgnet",
    "agree": {"value": 0.8, "low": 0.751, "high": 0.841, "n": 300},
    "mae": 0.0456,
    "bias": -0.02,
    "unstable_called_stable": {"value": 0.3, "low": 0.23, "high": 0.38, "n": 150},
}


def words(text: str) -> str:
    return " ".join(text.replace("\u00a0", " ").split())


def test_the_column_names_its_potential_and_the_error_that_was_measured(make_run: MakeRun) -> None:
    run = make_run({"crysldm": {"stable": 16}}, tasks=TASKS, about={"stability": {"error": ERROR}})
    text = words(render([run]))
    assert "energy above hull below 0.1 eV/atom once relaxed by chgnet" in text
    assert (
        "chgnet against DFT, 300 generated crystals: mean absolute error 0.046 eV/atom, bias -0.020, agrees about "
        "0.1 eV/atom for 80.0 % [75.1, 84.1], calls 30.0 % [23.0, 38.0] of the 150 unstable ones stable"
    ) in text


def test_a_potential_that_was_not_measured_says_so(make_run: MakeRun) -> None:
    run = make_run({"crysldm": {"stable": 16}}, tasks=TASKS, about={"stability": {"error": None}})
    text = words(render([run]))
    assert "the error of chgnet against DFT was not measured on generated crystals" in text
    assert "eV/atom for" not in text


def test_an_error_that_was_measured_on_another_hull_says_so(make_run: MakeRun) -> None:
    error = {**ERROR, "hull": "that of the package"}
    run = make_run({"crysldm": {"stable": 16}}, tasks=TASKS, about={"stability": {"error": error}})
    assert "300 generated crystals and another hull than here: mean" in words(render([run]))


def test_a_run_of_before_still_says_that_its_error_was_measured_on_known_phases(make_run: MakeRun) -> None:
    error = {name: value for name, value in ERROR.items() if name != "measured_on"} | {"phases": "MPTS-52"}
    run = make_run({"crysldm": {"stable": 16}}, tasks=TASKS, about={"stability": {"error": error}})
    text = words(render([run]))
    assert "300 phases of MPTS-52: mean" in text
    assert "On chemistry that it was not trained on it errs more" in text


def test_the_threshold_is_the_one_of_the_protocol(make_run: MakeRun) -> None:
    run = make_run({"crysldm": {"stable": 16}}, tasks=TASKS)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["protocol"]["tasks"]["stability"]["stable_below_ev_per_atom"] = 0.05
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = words(render([run]))
    assert "energy above hull below 0.05 eV/atom" in text


def test_rates_with_the_line_drawn_elsewhere_stand_beside_it(make_run: MakeRun) -> None:
    models = {
        "crysldm": {"stable": 16, "stable_below": {"0": 0, "0.05": 7}},
        "diffcsp": {"stable": 15, "stable_below": {"0": 2, "0.05": 9}},
    }
    text = words(render([make_run(models, tasks=TASKS)]))
    assert "below 0 / 0.05 eV/atom, Perov-5: CrysLDM 0.0 / 0.7 %, DiffCSP 0.2 / 0.9 %" in text


def test_a_second_potential_has_its_rates_and_its_disagreements_under_the_table(make_run: MakeRun) -> None:
    run = make_run(
        {"crysldm": {"stable": 16, "stable_by_m3gnet": 30}, "diffcsp": {"stable": 15, "stable_by_m3gnet": 12}},
        tasks=(*TASKS, "stability-m3gnet"),
        about={"stability": {"error": ERROR}, "stability-m3gnet": {"error": None}},
    )
    text = words(render([run]))
    assert (
        "Stable by m3gnet instead, Perov-5: CrysLDM 3.0 % [2.1, 4.3] (the two disagree about 16 of 1000 crystals), "
        in text
    )
    assert "DiffCSP 1.2 % [0.7, 2.1] (the two disagree about 5 of 1000 crystals)" in text
    assert "The error of m3gnet against DFT was not measured on generated crystals." in text


def test_with_one_potential_nothing_is_said_of_a_second(make_run: MakeRun) -> None:
    assert "instead" not in render([make_run({"crysldm": {"stable": 16}}, tasks=TASKS)])
