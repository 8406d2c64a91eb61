"""Quality against cost: which models are on the front, and what stands side by side at equal evaluations."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.figures.cost_quality import equal_pairs, front, pairs_table, points, qualities
from reports.figures.pareto import draw, write_reports
from reports.run_results import read_results
from reports.tables.columns import COLUMNS

MakeRun = Callable[..., Path]
SWEEP: dict[str, Any] = {
    "crysldm@10": {"steps": 10, "evaluations": 20.0, "seconds": 0.003, "density": 0.6, "valid": 900},
    "diffcsp@1000": {"steps": 1000, "evaluations": 2000.0, "seconds": 0.3, "density": 0.12, "valid": 985},
    "crysldm": {"steps": 100, "evaluations": 200.0, "seconds": 0.03, "density": 0.1, "valid": 990},
    "diffcsp@100": {"steps": 100, "evaluations": 200.0, "seconds": 0.029, "density": 0.5, "valid": 985},
    "train-copy": {"steps": None, "evaluations": 0.0, "seconds": 1e-6, "density": 0.1, "valid": 990},
}


def column(name: str) -> Any:
    return next(c for c in COLUMNS if c.metric == name)


def test_points_are_joined_by_family_in_order_of_cost_and_controls_left_out(make_run: MakeRun) -> None:
    results = read_results([make_run(SWEEP)])
    found = points(results, "emd_density", "network_evaluations")
    assert [(point.family, point.result.method) for point in found] == [
        ("CrysLDM", "CrysLDM@10"),
        ("CrysLDM", "CrysLDM"),
        ("DiffCSP", "DiffCSP@100"),
        ("DiffCSP", "DiffCSP@1000"),
    ]


@pytest.mark.parametrize(
    ("metric", "cost", "expected"),
    [
        ("emd_density", "network_evaluations", ["CrysLDM@10", "CrysLDM"]),
        ("emd_density", "seconds_per_crystal", ["CrysLDM@10", "CrysLDM", "DiffCSP@100"]),
        ("valid_composition", "seconds_per_crystal", ["CrysLDM@10", "CrysLDM", "DiffCSP@100"]),
    ],
)
def test_on_the_front_is_what_nothing_beats_in_both(
    metric: str, cost: str, expected: list[str], make_run: MakeRun
) -> None:
    found = points(read_results([make_run(SWEEP)]), metric, cost)
    on_front = front(found, column(metric))
    assert [p.result.method for p, best in zip(found, on_front, strict=True) if best] == expected


def test_equal_models_are_both_on_the_front(make_run: MakeRun) -> None:
    twins = {"crysldm": SWEEP["crysldm"], "diffcsp@100": SWEEP["crysldm"]}
    found = points(read_results([make_run(twins)]), "emd_density", "network_evaluations")
    assert front(found, column("emd_density")) == [True, True]


def test_models_at_equal_evaluations_stand_side_by_side_with_what_is_beyond_noise(make_run: MakeRun) -> None:
    results = read_results([make_run(SWEEP)])
    [pair] = equal_pairs(results)
    assert (pair.one.method, pair.other.method) == ("CrysLDM", "DiffCSP@100")
    assert pair.p_values["emd_density"] < 0.001
    assert pair.p_values["valid_composition"] > 0.05
    header, _, first, second = pairs_table(results).splitlines()
    assert header.split()[:2] == ["evals", "Method"]
    assert first.count(" *") == 1 and second.count(" *") == 0
    assert "0.100 [0.070, 0.140] *" in first


def test_pairs_of_one_family_or_of_other_costs_are_no_pairs(make_run: MakeRun) -> None:
    models = {"crysldm@10": SWEEP["crysldm@10"], "crysldm@11": SWEEP["crysldm@10"], "diffcsp": SWEEP["diffcsp@1000"]}
    assert equal_pairs(read_results([make_run(models)])) == []


def test_a_tie_between_two_pairs_is_corrected_for_both_having_been_tested(make_run: MakeRun) -> None:
    close = {"crysldm": {"valid": 975}, "diffcsp@100": {"valid": 988}}
    far = {"crysldm@10": SWEEP["crysldm@10"], "diffcsp@10": SWEEP["crysldm@10"]}
    [alone] = equal_pairs(read_results([make_run(close)]))
    both = equal_pairs(read_results([make_run({**close, **far}, name="both")]))
    assert alone.p_values["valid_composition"] < 0.05
    assert both[1].p_values["valid_composition"] == pytest.approx(2 * alone.p_values["valid_composition"])


def test_stability_has_a_panel_where_it_was_scored(make_run: MakeRun) -> None:
    results = read_results([make_run(SWEEP)])
    names = ["valid_composition", "valid_structure", "emd_num_elements", "emd_density"]
    assert [c.metric for c in qualities(results)] == names
    assert len(draw(results, "Perov-5").axes) == 8
    scored = {name: {**arguments, "stable": 20} for name, arguments in SWEEP.items()}
    results = read_results([make_run(scored, name="scored")])
    assert [c.metric for c in qualities(results)] == [*names, "stable_rate"]
    assert len(draw(results, "Perov-5").axes) == 10


def test_all_files_are_written_and_the_same_again(make_run: MakeRun) -> None:
    folder = make_run(SWEEP)
    shown = write_reports([folder])
    report = folder / "report"
    assert shown.startswith("Perov-5: different models at equal network evaluations")
    assert shown.endswith(f"Quality against cost: {report}/pareto.png, .pdf, .svg, .csv, .txt")
    before = {path.name: path.read_bytes() for path in report.iterdir()}
    assert sorted(before) == [f"pareto.{suffix}" for suffix in ("csv", "pdf", "png", "svg", "txt")]
    rows = list(csv.DictReader((report / "pareto.csv").open()))
    assert len(rows) == 4 * 4 * 2
    assert {row["steps"] for row in rows if row["model"] == "crysldm@10"} == {"10.0"}
    write_reports([folder])
    assert {path.name: path.read_bytes() for path in report.iterdir()} == before


def test_one_model_or_none_that_has_a_cost_makes_no_figure(make_run: MakeRun) -> None:
    alone = make_run({"crysldm": {}, "train-copy": SWEEP["train-copy"]}, name="alone")
    files = make_run({name: {"evaluations": None, "seconds": None} for name in ("mine", "yours")}, name="files")
    empty = make_run({"crysldm": None, "diffcsp": None}, name="empty")
    assert write_reports([alone, files, empty]) == ""
    assert not (alone / "report").exists()
