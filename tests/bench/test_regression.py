from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.commands.check import Comparison, check, verdict_lines, write_baseline
from bench.statistics import Metric
from bench.verdicts import Tolerance, Verdict, compare, direction

SMALL_NOISE = {
    "valid": Metric(0.90, 0.88, 0.92, 1000),
    "emd_density": Metric(0.20, 0.15, 0.30, 1000),
    "emd_density_floor": Metric(0.10, 0.08, 0.12, 1000),
    "steps": Metric(100, n=1000),
    "median_density": Metric(6.0, 5.9, 6.1, 1000),
    "seconds_per_crystal": Metric(0.04, 0.039, 0.041, 20),
    "steps_per_stable": Metric(None, 33.0, None, 1000),
}


def write_run(root: Path, metrics: dict[str, Metric], requested: int = 1000, protocol: str = "1", **names: Any) -> Path:
    root.mkdir()
    content = {"dataset": "perov5", "reference": "r", "tasks": {"validity": {"version": protocol}}}
    entry = {"requested": requested, "ledger": {}, "metrics": {name: m.to_json() for name, m in metrics.items()}}
    models = dict.fromkeys(names.get("models", ["crysldm"]), entry)
    manifest = {
        "format": 1,
        "dataset": "perov5",
        "protocol": content,
        "protocol_hash": "h",
        "software": {},
        "models": models,
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    (root / "summary.json").write_text(json.dumps({"dataset": "perov5", "models": models}))
    return root


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    write_baseline(write_run(tmp_path / "base", SMALL_NOISE), tmp_path / "baseline.json")
    return tmp_path / "baseline.json"


def verdicts(found: list[Comparison]) -> dict[str, str]:
    return {c.metric: c.verdict for c in found if c.verdict not in (Verdict.SAME, Verdict.UNDEFINED)}


def check_with(
    tmp_path: Path, baseline: Path, changes: dict[str, Metric], name: str = "run", **options: Any
) -> list[Comparison]:
    return check(write_run(tmp_path / name, {**SMALL_NOISE, **changes}), baseline, **options)


def test_a_run_is_no_regression_against_itself(tmp_path: Path, baseline: Path) -> None:
    found = check_with(tmp_path, baseline, {})
    assert not any(c.failed for c in found)
    assert verdict_lines(found) == ["5 metrics: no regression"]  # steps_per_stable is undefined in both


@pytest.mark.parametrize(
    ("metric", "new", "verdict", "fails"),
    [
        ("valid", Metric(0.80, 0.77, 0.83), Verdict.WORSE, True),
        ("valid", Metric(0.89, 0.87, 0.91), Verdict.NOISE, False),
        ("valid", Metric(0.97, 0.96, 0.98), Verdict.BETTER, False),
        ("emd_density", Metric(0.9, 0.7, 1.1), Verdict.WORSE, True),
        ("emd_density", Metric(0.05, 0.04, 0.06), Verdict.BETTER, False),
        ("emd_density_floor", Metric(0.5, 0.4, 0.6), Verdict.MOVED, False),
        ("steps", Metric(1000), Verdict.WORSE, True),
        ("median_density", Metric(7.0, 6.9, 7.1), Verdict.MOVED, False),
        ("seconds_per_crystal", Metric(0.4, 0.39, 0.41), Verdict.WORSE, False),
        ("valid", Metric(None), Verdict.LOST, True),
    ],
)
def test_a_change_for_the_worse_beyond_noise_fails(
    metric: str, new: Metric, verdict: str, fails: bool, tmp_path: Path, baseline: Path
) -> None:
    found = check_with(tmp_path, baseline, {metric: new})
    assert verdicts(found) == {metric: verdict}
    assert any(c.failed for c in found) == fails


def test_times_of_a_busy_machine_are_not_judged(tmp_path: Path, baseline: Path) -> None:
    busy = {"undisturbed_share": Metric(0.4, n=20)}
    check_with(tmp_path, baseline, busy)
    with pytest.raises(ValueError, match=r"run2: the times of crysldm cannot be judged, as only 40 % of its seconds"):
        check_with(tmp_path, baseline, busy, "run2", times=True)
    check_with(tmp_path, baseline, {"undisturbed_share": Metric(0.95, n=20)}, "run3", times=True)
    write_baseline(write_run(tmp_path / "busy", SMALL_NOISE | busy), tmp_path / "busy.json")
    with pytest.raises(ValueError, match=r"busy.json: the times of crysldm"):
        check_with(tmp_path, tmp_path / "busy.json", {}, "run4", times=True)


def test_what_belongs_to_the_machine_never_fails(tmp_path: Path) -> None:
    old = SMALL_NOISE | {"energy_wh": Metric(1.0, n=20), "peak_memory_bytes": Metric(1e9, n=20)}
    write_baseline(write_run(tmp_path / "base", old), tmp_path / "baseline.json")
    assert not [c for c in check_with(tmp_path, tmp_path / "baseline.json", {"energy_wh": Metric(None)}) if c.failed]


def test_times_fail_only_when_asked_to(tmp_path: Path, baseline: Path) -> None:
    found = check_with(tmp_path, baseline, {"seconds_per_crystal": Metric(0.4, 0.39, 0.41)}, times=True)
    assert [c.metric for c in found if c.failed] == ["seconds_per_crystal"]


def test_a_relative_tolerance_takes_the_place_of_noise_for_the_worse(tmp_path: Path, baseline: Path) -> None:
    for number, (value, rtol, failed) in enumerate([(0.89, 0.005, True), (0.89, 0.02, False), (0.99, 0.005, False)]):
        run = write_run(tmp_path / str(number), {**SMALL_NOISE, "valid": Metric(value, value - 0.02, value + 0.02)})
        assert any(c.failed for c in check(run, baseline, rtol=rtol)) == failed


def test_frozen_crystals_must_not_move_a_figure_in_either_direction(tmp_path: Path, baseline: Path) -> None:
    for number, (value, failed) in enumerate([(0.9001, True), (0.8999, True), (0.9 * (1 + 1e-12), False)]):
        run = write_run(tmp_path / str(number), {**SMALL_NOISE, "valid": Metric(value, 0.88, 0.92)})
        assert any(c.failed for c in check(run, baseline, exact=True)) == failed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "2"}, r'tasks.validity.version: "1" -> "2"'),
        ({"models": ["diffcsp"]}, "has no model crysldm"),
        ({"requested": 0}, "nothing was measured"),
    ],
)
def test_what_cannot_be_compared_is_an_error(
    options: dict[str, Any], message: str, tmp_path: Path, baseline: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        check(write_run(tmp_path / "run", SMALL_NOISE, **options), baseline)


def test_a_task_that_only_the_run_has_does_not_matter(tmp_path: Path, baseline: Path) -> None:
    run = write_run(tmp_path / "run", SMALL_NOISE)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["protocol"]["tasks"]["symmetry"] = {"symprec": 0.1}
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert not any(c.failed for c in check(run, baseline))


def test_no_metric_in_common_is_an_error(tmp_path: Path) -> None:
    undefined = {"valid": Metric(None), "seconds_per_crystal": Metric(1.0)}
    run = write_run(tmp_path / "run", undefined)
    content = {"format": 1, **json.loads((run / "manifest.json").read_text())}
    content["models"] = json.loads((run / "summary.json").read_text())["models"]
    content["models"]["crysldm"]["metrics"].pop("valid")
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no metric could be compared"):
        check(run, tmp_path / "b.json")


def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path, baseline: Path) -> None:
    run = write_run(tmp_path / "run", SMALL_NOISE)
    for content, message in (("{}", "no baseline"), ("[1]", "not an object"), ("rubbish", "not JSON")):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            check(run, tmp_path / "x.json")
    with pytest.raises(ValueError, match="no such file"):
        check(run, tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="--rtol"):
        check(run, baseline, rtol=-1)


def test_nothing_measured_makes_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        write_baseline(write_run(tmp_path / "run", SMALL_NOISE, requested=0), tmp_path / "b.json")


def test_figures_that_depend_on_the_number_of_crystals_are_compared_at_equal_numbers_only() -> None:
    old, new = Metric(0.1, 0.09, 0.11), Metric(0.5, 0.4, 0.6)
    assert compare("emd_density", old, new, False, Tolerance())[0] is Verdict.NOT_COMPARED
    assert compare("emd_density", old, new, True, Tolerance())[0] is Verdict.WORSE


def test_no_hit_by_chance_is_noise() -> None:
    old = Metric(6.0, 3.0, 12.0)
    assert compare("steps_per_stable", old, Metric(None, 10.0), True, Tolerance())[0] is Verdict.NOISE
    assert compare("steps_per_stable", old, Metric(None, 33.0), True, Tolerance())[0] is Verdict.LOST


def test_frozen_crystals_must_not_lose_a_figure_by_chance_either() -> None:
    old, new = Metric(6.0, 3.0, 12.0), Metric(None, 10.0)
    assert compare("steps_per_stable", old, new, True, Tolerance(1e-9, exact=True))[0] is Verdict.LOST


def test_figures_that_are_undefined_in_both_are_no_comparison(tmp_path: Path) -> None:
    undefined = {"valid": Metric(None), "steps_per_stable": Metric(None, 33.0)}
    write_baseline(write_run(tmp_path / "base", undefined), tmp_path / "b.json")
    with pytest.raises(ValueError, match="no metric could be compared"):
        check(tmp_path / "base", tmp_path / "b.json")


def test_the_last_line_says_how_much_moved_within_noise(tmp_path: Path, baseline: Path) -> None:
    found = check_with(tmp_path, baseline, {"valid": Metric(0.89, 0.87, 0.91)})
    assert verdict_lines(found) == ["5 metrics: no regression, 1 moved within noise"]
    assert "crysldm valid: 0.9 [0.88, 0.92] -> 0.89 [0.87, 0.91] (-0.01): within noise" in verdict_lines(found, True)


def test_directions_are_known_for_every_figure_of_the_paper() -> None:
    assert [
        direction(name) for name in ("valid_composition", "valid_structure", "stable_rate", "stable_rate[m3gnet]")
    ] == [1] * 4
    lower = ("emd_num_elements", "emd_density", "steps_per_stable", "network_evaluations", "seconds_per_stable")
    assert [direction(name) for name in lower] == [-1] * 5
    assert [direction(name) for name in ("median_density", "emd_density_floor")] == [0, 0]
