"""`bench csp`: structures for the compositions of a test split, sampled, matched, resumed, reported and gated."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.budget import MonotonicClock
from bench.commands.archive import pack
from bench.errors import Interrupted
from bench.model_specs import parse_models
from bench.prediction.compositions import PredictionPlan, Targets
from bench.rescoring import Rescoring, rescore
from bench.runner import Plan, resume, run
from bench.store import Run
from tests.bench import fake_predictors
from tests.bench.fake_runs import kept, model_summary
from tests.bench.small_perov5 import STRUCTURES, csv_bytes
from tests.command_line import bench

pytestmark = pytest.mark.usefixtures("small_perov5")
HERE = Path(__file__).parent
TEST_CRYSTALS = 7  # of the small data set


def plan(name: str = "Knows", prediction: PredictionPlan | None = None, **options: Any) -> Plan:
    chosen = {"workers": 1, "device": "cpu", "threads": 1, "prediction": prediction or PredictionPlan(), **options}
    models = ",".join(f"fake_predictors:{part}" for part in name.split(","))
    return Plan(parse_models(models), "perov5", **chosen)


def metrics(root: Path, model: str = "knows") -> dict[str, Any]:
    return model_summary(root, model)["metrics"]  # type: ignore[no-any-return]


def test_a_model_that_knows_the_structures_matches_all_that_are_valid(tmp_path: Path) -> None:
    run(plan(prediction=PredictionPlan(samples=2)), tmp_path / "r")
    found = metrics(tmp_path / "r")
    assert found["match_rate"]["value"] == found["match_ceiling"]["value"] == found["match_rate_1"]["value"]
    assert found["match_rate_all"]["value"] == 1.0
    assert 0 < found["match_rmsd_2"]["value"] <= found["match_rmsd_1"]["value"] < 0.05
    assert found["match_rate"]["n"] == TEST_CRYSTALS
    assert model_summary(tmp_path / "r", "knows")["requested"] == 2 * TEST_CRYSTALS


def test_structures_that_are_others_match_nothing(tmp_path: Path) -> None:
    run(plan("Elsewhere"), tmp_path / "r")
    found = metrics(tmp_path / "r", "elsewhere")
    assert found["match_rate"]["value"] == found["metre"]["value"] == 0.0
    assert found["match_rmsd"]["value"] is None
    assert found["match_crmse"]["value"] == 0.5
    assert found["seconds_per_match"]["value"] is None
    assert found["seconds_per_match"]["low"] > 0


def test_a_sample_that_is_missing_is_no_match_of_its_composition(tmp_path: Path) -> None:
    run(plan("Lost"), tmp_path / "r")
    table = Run.open(tmp_path / "r").task_table("lost", "structure_prediction").to_pylist()
    assert [row["matches"] for row in table] == [False, True, True] * 2 + [False]
    assert [row["composition"] for row in table] == list(range(TEST_CRYSTALS))
    assert table[0]["reason"] == "the network gave NaN"


def test_rows_go_through_all_compositions_before_the_next_sample_of_each(tmp_path: Path) -> None:
    run(plan(prediction=PredictionPlan(num_compositions=4, samples=3)), tmp_path / "r")
    table = Run.open(tmp_path / "r").task_table("knows", "structure_prediction")
    assert table["composition"].to_pylist() == [0, 1, 2, 3] * 3
    assert table["sample"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("OtherAtoms", r"other-atoms: of sample_given, crystal 0 is He1 where .* was asked for"),
        ("OtherOrder", r"has the atoms of .*, but in another order"),
    ],
)
def test_other_atoms_than_were_asked_for_end_the_run_and_are_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(plan(name), tmp_path / "r")


def test_a_model_without_sample_given_is_refused_by_name(tmp_path: Path) -> None:
    asked = Plan(parse_models("fake_generators:Fake"), "perov5", prediction=PredictionPlan())
    with pytest.raises(ValueError, match=r"fake predicts no structures: it has no sample_given"):
        run(asked, tmp_path / "r")


def test_compositions_are_the_first_ones_or_drawn_by_the_seed() -> None:
    first = Targets.of("perov5", PredictionPlan(num_compositions=3), seed=1)
    drawn = [Targets.of("perov5", PredictionPlan(num_compositions=3, draw=True), seed) for seed in (1, 1, 2)]
    assert first.rows.tolist() == [0, 1, 2]
    assert drawn[0].rows.tolist() == drawn[1].rows.tolist() != drawn[2].rows.tolist()
    assert (np.diff(first.compositions[2]) >= 0).all()
    with pytest.raises(ValueError, match="--num-compositions 8: the test split of perov5 has 7"):
        Targets.of("perov5", PredictionPlan(num_compositions=8), seed=0)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plan(prediction=PredictionPlan(samples=2))
    real, calls = fake_predictors.Knows.sample_given, 0

    def stopped(self: fake_predictors.Knows, compositions: Any, seed: int) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return real(self, compositions, seed)

    with monkeypatch.context() as patch:
        patch.setattr("fake_predictors.Knows.sample_given", stopped)
        with pytest.raises(Interrupted):
            run(asked, tmp_path / "r")
    resume(tmp_path / "r")
    run(asked, tmp_path / "whole")
    assert kept(tmp_path / "r") == kept(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "FAKE_DIED": str(tmp_path / "d")}
    command = [sys.executable, "-m", "bench", "csp", "--workers", "1", "--device", "cpu", "--threads", "1"]
    start = ["--models", "fake_predictors:DiesOnce", "--dataset", "perov5", "--samples", "2", "--seed", "5"]

    def process(*arguments: str) -> int:
        return subprocess.run([*command, *arguments], env=environment, capture_output=True).returncode

    assert process(*start, "--out", str(tmp_path / "killed")) == -9
    assert process("--resume", str(tmp_path / "killed")) == 0
    assert process(*start, "--out", str(tmp_path / "whole")) == 0
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")
    assert len(Run.open(tmp_path / "killed").manifest["sessions"]) == 2


def test_other_structures_behind_the_compositions_are_refused_on_resume(tmp_path: Path, small_perov5: Path) -> None:
    run(plan(), tmp_path / "r")
    (small_perov5 / "test.csv").write_bytes(csv_bytes(STRUCTURES["test"][::-1]))
    with pytest.raises(ValueError, match="references_sha256"):
        resume(tmp_path / "r")


def test_a_rescored_run_has_the_same_rows_and_takes_no_other_task(tmp_path: Path) -> None:
    run(plan(), tmp_path / "r")
    before = kept(tmp_path / "r")
    rescore(tmp_path / "r", workers=1)
    assert kept(tmp_path / "r") == before
    with pytest.raises(ValueError, match="a run of `bench csp` has one task"):
        rescore(tmp_path / "r", Rescoring(["validity"]))


def test_a_budget_of_seconds_samples_until_it_is_spent(tmp_path: Path) -> None:
    from bench.budget import Budget

    class Second(MonotonicClock):
        def stop(self) -> float:
            return 1.0

    run(plan(budget=Budget(seconds=8.5)), tmp_path / "r", clock=Second())
    rows = Run.open(tmp_path / "r").task_table("knows", "structure_prediction").num_rows
    found = metrics(tmp_path / "r")
    assert rows > TEST_CRYSTALS
    assert "match_rate_1" in found
    assert f"match_rate_{rows // TEST_CRYSTALS + 1}" not in found


def test_the_report_shows_each_k_and_the_printed_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(plan("Knows,Elsewhere", PredictionPlan(samples=2)), tmp_path / "r")
    assert bench("report", tmp_path / "r", "--paper", "--format", "markdown") == 0
    shown = capsys.readouterr().out
    assert "| Perov-5 | knows | 1 |" in shown
    assert "DiffCSP (paper) | 20 | 98.60 | 0.0128" in shown
    assert {path.name for path in (tmp_path / "r" / "report").iterdir()} >= {
        "structure_prediction.txt",
        "structure_prediction.csv",
        "match_curve.csv",
        "match_curve.png",
    }


def test_the_curve_ends_at_the_match_rate_of_the_summary(tmp_path: Path) -> None:
    run(plan(prediction=PredictionPlan(samples=2)), tmp_path / "r")
    with open(tmp_path / "r" / "report" / "match_curve.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rates = [float(row["match_rate"]) for row in rows]
    seconds = [float(row["device_seconds"]) for row in rows]
    assert rates == sorted(rates)
    assert seconds == sorted(seconds)
    assert rates[-1] == pytest.approx(metrics(tmp_path / "r")["match_rate"]["value"])
    assert int(rows[-1]["samples"]) == 2 * TEST_CRYSTALS


def test_a_run_of_the_other_kind_is_not_put_into_the_same_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(plan(), tmp_path / "r")
    other = tmp_path / "other"
    other.mkdir()
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    manifest["protocol"]["tasks"] = {"validity": {}}
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert bench("report", tmp_path / "r", other) == 2
    assert "is a run of `bench csp`, and others are not" in capsys.readouterr().err


def test_an_archive_of_a_run_is_reported_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(plan(), tmp_path / "r")
    pack(tmp_path / "r", tmp_path / "r.zip")
    assert bench("report", tmp_path / "r.zip") == 0
    assert "Crystal structure prediction" in capsys.readouterr().out


def test_a_worse_match_rate_fails_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(plan(), tmp_path / "good")
    assert bench("baseline", tmp_path / "good", "--out", tmp_path / "base.json") == 0
    assert bench("check", tmp_path / "good", "--against", tmp_path / "base.json") == 0
    content = json.loads((tmp_path / "good" / "summary.json").read_text())
    rate = content["models"]["knows"]["metrics"]["match_rate_all"]
    rate |= {"value": 0.0, "low": 0.0, "high": 0.35}
    (tmp_path / "good" / "summary.json").write_text(json.dumps(content))
    assert bench("check", tmp_path / "good", "--against", tmp_path / "base.json") == 1
    assert "match_rate_all" in capsys.readouterr().out


def test_the_command_line_says_which_options_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["csp", "--models", "fake_predictors:Knows", "--dataset", "perov5", "--out", tmp_path / "r"]
    assert bench(*start, "--samples", 2, "--budget", "5s") == 2
    assert "either --samples or --budget" in capsys.readouterr().err
    assert bench(*start, "--draw") == 2
    assert "--draw needs --num-compositions" in capsys.readouterr().err
    assert bench(*start, "--samples", 0) == 2
    assert "--samples 0: must be at least 1" in capsys.readouterr().err
    assert bench("csp") == 2
    assert "needs --models and --dataset" in capsys.readouterr().err
