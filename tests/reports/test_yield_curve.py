"""The yield curve of a stored run: what counts, against which cost, and the files that are written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.run_results import read_results
from reports.yields.curves import Axis, Kind, YieldCurve
from reports.yields.figure import draw, render_at, write_reports
from reports.yields.stored import kinds_of, yield_curves
from reports.yields.tables import costs_csv, lead_lines, leads, leads_csv, reading_table, readings_csv, yield_text
from tests.stored_batches import sampled

MakeRun = Callable[..., Path]
Flags = Mapping[str, Sequence[bool | None]]
TASKS = ("validity", "stability", "novelty")
BATCHES = [(2.0, 10, True), (3.0, 10, True), (1.0, 5, True), (4.0, 10, False)]


def flags(seed: int, n: int = 25) -> dict[str, dict[str, Sequence[bool | None]]]:
    rng = np.random.default_rng(seed)
    columns = {"validity": ["valid"], "stability": ["stable"], "novelty": ["unique", "novel"]}
    return {task: {name: (rng.random(n) < 0.6).tolist() for name in names} for task, names in columns.items()}


@pytest.fixture
def make_sampled(make_run: MakeRun) -> MakeRun:
    """A finished run whose models have these tables, and BATCHES unless told otherwise; budget 8 device seconds.

    Tables of a list of repeats, or of one.
    """

    def make(models: Mapping[str, Any], tasks: Sequence[str] = TASKS, batches: Any = BATCHES, **changes: Any) -> Path:
        evaluations = changes.pop("evaluations", 20.0)
        folder = make_run({name: {"evaluations": evaluations} for name in models}, **changes)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["protocol"]["tasks"] = {task: {} for task in tasks}
        for name, tables in models.items():
            manifest["models"][name]["repeats"] = len(tables) if isinstance(tables, list) else 1
        (folder / "manifest.json").write_text(json.dumps(manifest))
        for name, tables in models.items():
            for repeat, own in enumerate(tables if isinstance(tables, list) else [tables]):
                kept = {task: own[task] for task in tasks}
                sampled(folder, name, batches, kept, repeat, evaluations)
        return folder

    return make


def the_curve(folder: Path, kind: Kind, axis: Axis = "seconds") -> YieldCurve:
    [result] = read_results([folder])
    [found] = [curve for curve in yield_curves(result) if (curve.kind, curve.axis) == (kind, axis)]
    return found


def test_every_kind_is_counted_crystal_by_crystal_in_sampling_order(make_sampled: MakeRun) -> None:
    tables = flags(0)
    folder = make_sampled({"crysldm": tables}, budget={"seconds": 8.0})
    columns = {name: np.array(values) for table in tables.values() for name, values in table.items()}
    expected: dict[Kind, Any] = {
        "valid": columns["valid"],
        "stable": columns["stable"],
        "sun": columns["stable"] & columns["unique"] & columns["novel"],
    }
    for kind, good in expected.items():
        found = the_curve(folder, kind).counts(np.array([1.9, 2.0, 5.5, 6.0, 8.0]))
        assert found.tolist() == [0, good[:10].sum(), good[:20].sum(), good.sum(), good.sum()]


def test_what_ended_too_late_does_not_count_but_was_spent(make_sampled: MakeRun) -> None:
    folder = make_sampled({"crysldm": flags(0)}, budget={"seconds": 8.0})
    curve = the_curve(folder, "valid")
    assert curve.until == 8.0
    assert curve.repeats[0].spent == 10.0
    assert curve.expected_cost(1).value == pytest.approx(10.0 / curve.hits)


def test_the_other_cost_is_network_evaluations(make_sampled: MakeRun) -> None:
    folder = make_sampled({"crysldm": flags(0)}, budget={"seconds": 8.0})
    by_evaluations = the_curve(folder, "stable", "evaluations")
    assert by_evaluations.events.tolist() == [200.0, 400.0, 500.0]
    assert by_evaluations.repeats[0].spent == 700.0
    assert by_evaluations.hits == the_curve(folder, "stable").hits


def test_repeats_are_read_apart(make_sampled: MakeRun) -> None:
    repeats = [{"validity": {"valid": [good] * 25}} for good in (True, False)]
    folder = make_sampled({"crysldm": repeats}, tasks=("validity",), budget={"seconds": 8.0})
    curve = the_curve(folder, "valid")
    assert [one.hits.tolist() for one in curve.repeats] == [[10, 10, 5], [0, 0, 0]]
    assert curve.counts(np.array([2.0])).tolist() == [5]
    assert "means of 2 repeats" in yield_text([curve], "Perov-5")


@pytest.mark.parametrize(
    ("tasks", "kinds"),
    [
        (("validity", "properties"), ["valid"]),
        (("validity", "novelty"), ["valid", "vun"]),
        (("validity", "stability"), ["valid", "stable"]),
        (("validity", "stability", "novelty"), ["valid", "stable", "sun"]),
        (("properties",), []),
    ],
)
def test_kinds_are_those_of_the_tasks_that_were_scored(tasks: Sequence[str], kinds: list[str]) -> None:
    assert kinds_of(tasks) == kinds


def test_what_is_not_known_to_be_new_is_not_counted_and_said(make_sampled: MakeRun) -> None:
    tables = flags(0)
    tables["stability"]["stable"] = [True] * 25
    tables["novelty"] = {"unique": [True] * 25, "novel": [True] * 5 + [None] * 20}
    folder = make_sampled({"crysldm": tables})
    curve = the_curve(folder, "sun")
    assert (curve.hits, curve.unknown) == (5, 20)
    assert "not known whether they are new (the training crystals are not at hand): CrysLDM 20." in yield_text(
        [curve], "Perov-5"
    )


def test_controls_and_files_of_unknown_cost_have_no_curve(make_sampled: MakeRun, make_run: MakeRun) -> None:
    control = make_sampled({"train-copy": flags(0)}, evaluations=0.0, name="control")
    unknown = [(None, 25, True)]
    from_file = make_sampled({"mine": flags(0)}, evaluations=None, name="file", batches=unknown)
    for folder in (control, from_file):
        assert yield_curves(read_results([folder])[0]) == []
        assert write_reports([folder]) == ""
        assert not (folder / "report").exists()
    with pytest.raises(ValueError, match="no model in it whose device seconds are known"):
        render_at([from_file], [1.0])


def test_all_files_are_written_and_named(make_sampled: MakeRun) -> None:
    folder = make_sampled({"crysldm": flags(0), "diffcsp": flags(1)}, budget={"seconds": 8.0})
    shown = write_reports([folder])
    report = folder / "report"
    assert f"Yield curve: {report}/yield_curve.png, .pdf, .svg, .csv, .txt, yield_costs.csv, yield_leads.csv" in shown
    assert shown.startswith("Perov-5: by 8 device seconds, which every model spent")
    assert (report / "yield_curve.png").read_bytes().startswith(b"\x89PNG")
    assert (report / "yield_curve.pdf").read_bytes().startswith(b"%PDF")
    assert (report / "yield_curve.svg").read_text().startswith("<?xml")
    rows = list(csv.DictReader((report / "yield_curve.csv").open()))
    assert {(row["model"], row["kind"], row["cost"]) for row in rows} == {
        (model, kind, cost)
        for model in ("CrysLDM", "DiffCSP")
        for kind in ("valid", "stable", "sun")
        for cost in ("device seconds", "network evaluations")
    }
    last = [row for row in rows if (row["model"], row["kind"], row["cost"]) == ("CrysLDM", "valid", "device seconds")][
        -1
    ]
    assert (float(last["at"]), int(last["asked"])) == (6.0, 25)
    assert float(last["low"]) < float(last["crystals"]) == sum(flags(0)["validity"]["valid"]) < float(last["high"])
    costs = list(csv.DictReader((report / "yield_costs.csv").open()))
    assert {row["number"] for row in costs} == {"1", "10", "100", "1000"}


def test_the_same_run_gives_the_same_bytes_whatever_the_users_settings(make_sampled: MakeRun) -> None:
    import matplotlib

    folder = make_sampled({"crysldm": flags(0)})
    write_reports([folder])
    before = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20, "svg.hashsalt": "x", "savefig.dpi": 30}):
        write_reports([folder])
    assert {path.name: path.read_bytes() for path in (folder / "report").iterdir()} == before


def test_a_run_without_a_single_good_crystal_still_gives_a_figure(make_sampled: MakeRun) -> None:
    tables = flags(0)
    tables["stability"]["stable"] = [False] * 25
    folder = make_sampled({"crysldm": tables}, budget={"seconds": 8.0})
    assert write_reports([folder])
    text = (folder / "report" / "yield_curve.txt").read_text()
    row = next(line for line in text.splitlines() if line.startswith("CrysLDM") and "stable" in line)
    assert "> 3.54" in row  # 10 s over the most that 25 can give, by Clopper and Pearson
    assert row.rstrip().endswith("–")


def test_the_figure_has_a_panel_for_each_kind_and_cost_and_a_line_for_each_model(make_sampled: MakeRun) -> None:
    folder = make_sampled({"crysldm": flags(0), "diffcsp": flags(1)})
    curves = [curve for result in read_results([folder]) for curve in yield_curves(result)]
    figure = draw(curves, "Perov-5")
    assert len(figure.axes) == 3 * 2
    for panel in figure.axes:
        assert [line.get_label() for line in panel.lines] == ["CrysLDM", "DiffCSP"]
    line = figure.axes[0].lines[0]
    assert line.get_ydata()[-1] == sum(flags(0)["validity"]["valid"])


def test_a_smaller_budget_is_read_off_in_every_format(make_sampled: MakeRun) -> None:
    folder = make_sampled({"crysldm": flags(0)}, budget={"seconds": 8.0})
    good = sum(flags(0)["validity"]["valid"][:20])
    text = render_at([folder], [2.0, 5.5])
    assert "by 2 device seconds" in text and "by 5.5 device seconds" in text
    cell = f"{good} ["
    assert cell in text.partition("by 5.5")[2]
    assert cell in render_at([folder], [5.5], "markdown")
    assert cell in render_at([folder], [5.5], "latex")
    rows = list(csv.DictReader(io.StringIO(render_at([folder], [5.5], "csv"))))
    [row] = [row for row in rows if row["kind"] == "valid"]
    assert (float(row["at"]), int(row["asked"]), float(row["crystals"])) == (5.5, 20, good)


def test_a_budget_beyond_the_run_is_refused_and_one_beyond_a_model_has_a_dash(make_sampled: MakeRun) -> None:
    folder = make_sampled({"crysldm": flags(0)}, batches=BATCHES[:3])
    longer = make_sampled({"diffcsp": flags(1)}, name="longer", batches=[(5.0, 10, True), (6.0, 15, True)])
    with pytest.raises(
        ValueError, match="--at 20s: no model was sampled for so long; the longest for 11 device seconds"
    ):
        render_at([folder, longer], [20.0])
    shown = render_at([folder, longer], [11.0])
    assert "ended at 6.00" in shown
    [row] = [
        r
        for r in csv.DictReader(io.StringIO(render_at([folder, longer], [11.0], "csv")))
        if r["model"] == "CrysLDM" and r["kind"] == "valid"
    ]
    assert row["crystals"] == row["low"] == ""


def test_who_leads_is_said_for_every_pair_and_kind(make_sampled: MakeRun) -> None:
    many, few = flags(0), flags(1)
    many["validity"]["valid"], few["validity"]["valid"] = [True] * 25, [True] + [False] * 24
    folder = make_sampled({"crysldm": many, "diffcsp": few}, budget={"seconds": 8.0})
    curves = [c for result in read_results([folder]) for c in yield_curves(result) if c.axis == "seconds"]
    lines = lead_lines(leads(curves))
    assert len(lines) == 3
    assert lines[0] == "valid: CrysLDM, DiffCSP: CrysLDM has more from 2.00 on; beyond noise from 2.00 on"


def test_of_many_pairs_those_that_cross_are_told_and_all_are_in_the_csv(make_sampled: MakeRun) -> None:
    slow = [(1.0, 5, True), (0.5, 20, True)]
    models = {f"crysldm@{steps}": flags(steps) for steps in range(1, 6)}
    folder = make_sampled(models, tasks=("validity",))
    late = make_sampled({"late": flags(9)}, tasks=("validity",), batches=slow, name="late")
    curves = [c for result in read_results([folder, late]) for c in yield_curves(result) if c.axis == "seconds"]
    lines = lead_lines(leads(curves))
    rows = list(csv.DictReader(io.StringIO(leads_csv("perov5", curves))))
    assert len(rows) == 15
    assert len(lines) == sum(bool(row["crossings"]) for row in rows) < 15


def test_nothing_is_said_of_noise_where_a_model_has_no_batch_yet(make_sampled: MakeRun) -> None:
    folder = make_sampled({"crysldm": flags(0)}, tasks=("validity",), batches=[(1.0, 25, True)])
    slow = make_sampled({"diffcsp": flags(1)}, tasks=("validity",), batches=[(30.0, 25, True)], name="slow")
    curves = [c for result in read_results([folder, slow]) for c in yield_curves(result) if c.axis == "seconds"]
    [line] = lead_lines(leads(curves))
    assert line.endswith("CrysLDM has more from 1.00 on; DiffCSP has no batch as far as both are known")


def test_a_model_too_slow_for_the_budget_has_a_row_without_figures(make_sampled: MakeRun) -> None:
    tables = {task: {name: [] for name in columns} for task, columns in flags(0).items()}
    folder = make_sampled({"crysldm": tables}, batches=[(9.0, 10, False)], budget={"seconds": 8.0})
    curves = [c for c in yield_curves(read_results([folder])[0]) if c.axis == "seconds"]
    assert reading_table(curves, 8.0).splitlines()[-1].split() == ["CrysLDM", "0", "0", "0", "0"]
    [first, *_] = csv.DictReader(io.StringIO(costs_csv("perov5", curves)))
    assert first["expected"] == first["low"] == first["observed"] == ""
    assert write_reports([folder])


def test_a_model_of_a_number_of_crystals_whose_first_batch_ends_later_is_named_and_not_counted_as_none(
    make_sampled: MakeRun,
) -> None:
    quick = make_sampled({"crysldm": flags(0)}, tasks=("validity",), batches=[(1.0, 5, True), (2.85, 20, True)])
    slow = make_sampled({"diffcsp": flags(1)}, tasks=("validity",), batches=[(8.0, 25, True)], name="slow")
    curves = [c for result in read_results([quick, slow]) for c in yield_curves(result) if c.axis == "seconds"]
    shown = yield_text(curves, "Perov-5")
    assert "By 3.85 device seconds, which every model spent" in shown
    [line] = [line for line in shown.splitlines() if line.startswith("DiffCSP  ")][:1]
    assert "no batch had ended; the first ends at 8.00" in line
    assert line.split()[-1] == "–"
    early, late = (row for row in csv.DictReader(io.StringIO(readings_csv("perov5", curves[1:], [3.85, 8.0]))))
    assert early["crystals"] == early["asked"] == ""
    assert late["asked"] == "25"
