"""Times to a target with censored seeds, totals with crossing points, and the files of a report."""

import json
from pathlib import Path

import pytest

from bench.cli import main
from bench.statistics import Metric, wilson
from reports.learning.curves import (
    TARGETS,
    Condition,
    LearningCurve,
    Point,
    best_offer,
    cost_per_crystal,
    crossings,
    kind_of_crystals,
    offers,
    read_curves,
    time_to_target,
)
from reports.learning.figure import write_reports
from reports.learning.tables import curve_rows, show_time
from reports.tables.formats import grid

ROOT = Path(__file__).parents[2]
VALID = [Condition("valid", 0.8)]


def point(seconds, valid, cost=1.0, **more):
    """A snapshot of two seeds or more with these shares of valid crystals, of 100 each."""
    rate = wilson(round(100 * sum(valid)), 100 * len(valid))
    metrics = {"valid": rate, "seconds_per_crystal": Metric(cost, n=10), **more}
    return Point(seconds, metrics, [seconds] * len(valid), [{"valid": value} for value in valid])


def curve(key, *points):
    return LearningCurve(key, key, points)


def test_a_seed_that_never_meets_a_target_counts_to_its_end():
    found = time_to_target(curve("a", point(10, (0.1, 0.9, 0.2)), point(20, (0.5, 0.1, 0.8))), VALID)
    assert (found.reached, found.seeds, found.expected, found.least) == (2, 3, (20 + 10 + 20) / 2, 20)
    assert show_time(found) == "25.0 (2 of 3)"


def test_where_no_seed_meets_it_the_time_is_a_bound():
    found = time_to_target(curve("a", point(10, (0.1, 0.2))), VALID)
    assert (found.reached, found.expected, found.least) == (0, None, 10)
    assert show_time(found) == "> 10.0 (0 of 2)"


def test_what_is_unknown_does_not_meet_a_target():
    """A figure that is undefined, or a floor that was not computed."""
    at_floor = TARGETS["all of it"]
    floors = {name: Metric(0.1, 0.0, 0.2, 50) for name in ("emd_density_floor", "emd_num_elements_floor")}
    good = {"valid_composition": 1.0, "valid_structure": 0.95, "emd_density": 0.2, "emd_num_elements": 0.1}
    for metrics, figures, reached in (
        (floors, good, 1),
        ({}, good, 0),
        (floors, {**good, "emd_density": None}, 0),
        (floors, {**good, "emd_density": 0.21}, 0),
        (floors, {**good, "valid_composition": 0.94}, 0),
    ):
        assert time_to_target(curve("a", Point(5, metrics, [5.0], [figures])), at_floor).reached == reached


def test_totals_take_the_best_snapshot_and_say_where_models_cross():
    quick = curve("quick", point(10, (0.5, 0.5), cost=1.0))  # 2 s a valid crystal
    slow = curve("slow", point(50, (0.1, 0.1), cost=1.0), point(100, (1.0, 1.0), cost=0.5))
    found = offers([quick, slow], kind_of_crystals([quick, slow]))
    assert best_offer(found["slow"], 1).fixed == 50
    assert best_offer(found["slow"], 100).total(100) == pytest.approx(150)
    first, second = crossings(found)
    assert (first.cheaper, first.crystals) == ("quick", 1.0)
    assert (second.cheaper, second.dearer, second.crystals) == ("slow", "quick", pytest.approx(60))


def test_a_snapshot_without_a_crystal_is_no_offer_and_one_stable_crystal_makes_all_count_stable_ones():
    nothing = curve("a", point(10, (0.0, 0.0)))
    assert offers([nothing], "valid") == {}
    assert crossings({}) == []
    assert kind_of_crystals([nothing]) == "valid"
    stable = curve("b", point(10, (0.5, 0.5), seconds_per_stable_end_to_end=Metric(30.0, 10.0, 90.0, 50)))
    assert kind_of_crystals([nothing, stable]) == "stable"
    assert cost_per_crystal(stable.points[0], "stable").value == 30
    assert cost_per_crystal(nothing.points[0], "stable").value is None


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "examples" / "learning").glob("*.zip"))])
def test_the_page_shows_the_stored_runs(name):
    page = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
    curves = read_curves(ROOT / "examples" / "learning" / f"{name}.zip")
    for line in grid(*curve_rows(curves), "markdown").splitlines():
        assert line in page


@pytest.fixture
def learned(tmp_path):
    """A finished run of two models, as `bench learn` leaves it, without its crystals."""
    root = tmp_path / "r"
    root.mkdir()
    entries = {}
    for model in ("crysldm", "diffcsp"):
        for number, (seconds, hits) in enumerate(((5.0, 10), (10.0, 95))):
            rate = wilson(2 * hits, 200)
            metrics = {"valid": rate, "valid_composition": rate, "seconds_per_crystal": Metric(0.5, 0.4, 0.6, 10)}
            metrics |= {"emd_density": Metric(0.3, 0.2, 0.4, 200), "emd_density_floor": Metric(0.1, 0.0, 0.2, 200)}
            place = {"model": model, "factor": 1.0, "curve": model, "number": number, "mark_s": seconds}
            entries[f"{model}+{seconds:g}s"] = {
                "metrics": {name: metric.to_json() for name, metric in metrics.items()},
                "snapshot": {**place, "train_seconds": [seconds, seconds]},
                "by_seed": [{"valid": hits / 100, "valid_composition": hits / 100}] * 2,
            }
    manifest = {"format": 1, "dataset": "perov5", "models": {}, "protocol": {"tasks": {}}}
    manifest["learning"] = {"plan": {"seeds": 2, "cpu_time": True}}
    (root / "manifest.json").write_text(json.dumps(manifest))
    (root / "summary.json").write_text(json.dumps({"models": entries}))
    return root


def test_a_report_has_tables_and_a_figure(learned, capsys):
    text = write_reports([learned])
    assert "CrysLDM" in text
    assert "10.0 (2 of 2)" in text
    assert "> 10.0 (0 of 2)" in text
    assert "CPU seconds" in text
    names = {path.name for path in (learned / "report").iterdir()}
    tables = {"learning.csv", "learning_targets.csv", "learning_totals.csv"}
    assert names == {"learning.png", "learning.pdf", "learning.svg", "learning.txt", *tables}
    with pytest.raises(SystemExit) as ended:
        main(["report", str(learned), "--format", "csv"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(
        "dataset,sampler,train_seconds,metric,value,low,high,n\nperov5,crysldm,5.0"
    )


def test_what_a_run_lacks_is_said(learned, tmp_path):
    summary = json.loads((learned / "summary.json").read_text())
    del summary["models"]["diffcsp+5s"]["by_seed"]
    (learned / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=r"summary.json is damaged \(KeyError\('by_seed'\)\); write it anew with"):
        read_curves(learned)
