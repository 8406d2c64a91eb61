"""The test split's own row and panel: shown where it was scored as the models were, and only there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.datasets.figures import SplitFigures
from bench.parquet import write_table
from bench.statistics import Metric, wilson
from bench.store import Run
from reports.figures.hull_histogram import hull_histograms
from reports.run_results import read_results
from reports.tables.table1 import render

MakeRun = Callable[..., Path]
TASKS = ("validity", "properties", "stability")


def write_stability(folder: Path, energies: list[float | None], converged: list[bool]) -> None:
    (folder / "crysldm").mkdir()
    table = pa.table({"e_above_hull": pa.array(energies, pa.float64()), "converged": converged})
    write_table(folder / "crysldm" / "stability.parquet", table)


@pytest.fixture
def own(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> SplitFigures:
    """Figures of a test split of 2000 crystals, 39 of them stable, as if they were shipped for Perov-5."""
    folder = make_run({"crysldm": {"n": 2000, "valid": 1990, "stable": 39}}, name="split", tasks=TASKS)
    write_stability(folder, [0.05, None, 0.30004, 0.2], [True, False, True, False])
    figures = SplitFigures.of_run(Run.open(folder))
    monkeypatch.setattr("reports.tables.split_row.split_figures", {"perov5": figures}.get)
    return figures


def test_the_table_has_a_row_of_the_test_split(own: SplitFigures, make_run: MakeRun) -> None:
    run = make_run({"crysldm": {"stable": 16}, "train-copy": {"evaluations": 0}}, tasks=TASKS)
    rows = [line for line in render([run], "markdown").splitlines() if line.startswith("|")]
    (row,) = (line for line in rows if "test split" in line and "[" in line)
    assert "1.9" in row  # 39 of 2000 %
    assert "99.5" in row
    assert "0.110" not in row  # a distance to itself would mean nothing
    assert rows.index(row) == len(rows) - 1  # after the controls, not ranked
    assert "2000 of the 3785 crystals of Perov-5's own test split" in " ".join(render([run]).split())


def test_what_was_scored_otherwise_is_not_shown(own: SplitFigures, make_run: MakeRun) -> None:
    text = render([make_run({"crysldm": {}}, tasks=("validity",), smact="5.0")])
    assert "test split:" not in text
    text = render([make_run({"crysldm": {"stable": 16}}, name="newer", tasks=TASKS, smact="5.0")], "markdown")
    (row,) = (line for line in text.splitlines() if "test split" in line and line.startswith("|") and "[" in line)
    assert "99.5" not in row
    assert "1.9" in row


def test_another_data_set_has_no_such_row(own: SplitFigures, make_run: MakeRun) -> None:
    assert "own test split" not in render([make_run({"crysldm": {"stable": 16}}, dataset="mp20", tasks=TASKS)])


def test_the_figure_has_a_panel_of_the_test_split_in_the_models_bins(own: SplitFigures, make_run: MakeRun) -> None:
    run = make_run({"crysldm": {"stable": 3}}, tasks=TASKS)
    write_stability(run, [0.01, 0.3, 0.4], [True] * 3)
    model, split = hull_histograms(read_results([run]))
    assert split.method == "test split"
    np.testing.assert_array_equal(model.edges, split.edges)
    assert split.converged.sum() == 2
    assert split.unconverged.sum() == 1
    assert split.missing == 2000 - 3


def test_figures_of_a_split_come_back_from_their_file(own: SplitFigures, tmp_path: Path) -> None:
    assert SplitFigures.read(tmp_path, "perov5") is None
    own.write(tmp_path, "perov5")
    again = SplitFigures.read(tmp_path, "perov5")
    assert again is not None
    assert again.metrics["stable_rate"] == wilson(39, 2000)
    assert list(again.e_above_hull) == [0.05, 0.3]
    assert list(again.e_above_hull_not_converged) == [0.2]
    assert again.known("stable_rate", "stability", own.protocols) == wilson(39, 2000)
    assert again.known("stable_rate", "stability", {"stability": {"threshold": 0.2}}) is None
    assert again.known("stable_rate", "stability", {}) is None


def test_damaged_figures_of_a_split_are_refused_by_name(own: SplitFigures, tmp_path: Path) -> None:
    path = tmp_path / "perov5.test.json"
    own.write(tmp_path, "perov5")
    plain = json.loads(path.read_text())
    for content in ("{", "[]", json.dumps({**plain, "metrics": 3}), json.dumps({**plain, "more": 1})):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"perov5\.test\.json: damaged"):
            SplitFigures.read(tmp_path, "perov5")


def test_figures_of_a_split_come_from_a_run_of_one_model(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="holds crysldm, diffcsp; figures of a split need one model"):
        SplitFigures.of_run(Run.open(make_run({"crysldm": {}, "diffcsp": {}})))
    without = SplitFigures.of_run(Run.open(make_run({"test": {}}, name="other")))
    assert (without.requested, without.e_above_hull) == (1000, [])
    assert without.metrics["valid_structure"] == Metric(1.0, wilson(1000, 1000).low, 1.0, 1000)
