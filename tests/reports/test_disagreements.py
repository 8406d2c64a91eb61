"""Where potentials disagree: each crystal in the row of its chemistry, each rate over the crystals of its row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from bench.parquet import write_table
from reports.page.html_page import render as render_page
from reports.tables.disagreements import render
from reports.tables.table1 import render as render_table1
from tests.reports.conftest import model_metrics
from tests.stored_crystal_runs import whole_run

MakeRun = Callable[..., Path]
FORMULAS = ["Na1 Cl1", "K1 Br1", "Mg1 O1", "Cu1 Au1", None]
FIRST = [True, True, True, False, False]
SECOND = [True, False, True, None, False]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    """Five rows of two potentials, the last of which is no crystal."""
    folder = whole_run(make_run, {"crysldm": [0.0] * 5}, tasks=("validity", "stability", "stability-m3gnet"))
    for name, stable in (("stability", FIRST), ("stability-m3gnet", SECOND)):
        columns = {"index": range(5), "formula": FORMULAS, "stable": pa.array(stable, pa.bool_())}
        columns |= {"e_above_hull": [0.0] * 5, "converged": [True] * 5}
        write_table(folder / "crysldm" / f"{name}.parquet", pa.table(columns))
    return folder


def test_crystals_are_counted_by_chemistry_and_what_is_none_counts_in_the_first_row_alone(run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(render([run], "csv"))))
    found = {(row["chemistry"], row["stable_by"]): (row["crystals"], float(row["rate"])) for row in rows}
    assert found["all asked for", "chgnet"] == ("5", 0.6)
    assert found["all asked for", "m3gnet"] == ("5", 0.4)
    assert found["all asked for", "all of them"] == ("5", 0.4)
    assert found["all asked for", "disagree"] == ("5", 0.2)
    assert found["halides", "disagree"] == ("2", 0.5)
    assert found["other oxides", "all of them"] == ("1", 1.0)
    assert found["metals alone", "disagree"] == ("1", 0.0)  # no verdict of the second is no stable crystal
    assert sum(int(c) for (kind, by), (c, _) in found.items() if by == "disagree" and kind != "all asked for") == 4
    assert all(float(row["rate_low"]) <= float(row["rate"]) <= float(row["rate_high"]) for row in rows)
    assert max(map(len, render([run]).splitlines()[:8])) < 140


def test_the_page_has_the_table_where_two_potentials_judged_and_nothing_of_it_elsewhere(
    run: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.page.figures.inline_svg", lambda draw, name: "<svg></svg>")
    assert 'id="perov5-disagreements0"' in render_page([run])
    alone = whole_run(make_run, {"crysldm": [0.0] * 5}, name="alone")
    assert "perov5-disagreements" not in render_page([alone])
    with pytest.raises(ValueError, match="scored by one potential; `python -m bench rescore .*alone --tasks stability"):
        render([alone])


def test_consensus_rates_stand_under_the_table(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.statistics import wilson

    both = {"stable_by_all_rate": wilson(20, 1000), "stable_by_majority_rate": wilson(30, 1000)}
    monkeypatch.setattr("tests.reports.conftest.model_metrics", lambda **how: model_metrics(**how) | both)
    text = " ".join(render_table1([make_run({"crysldm": {"stable": 40}})]).split())
    assert "Stable by all of the potentials at once: CrysLDM 2.0 % [1.3, 3.1]." in text
    assert "Stable by more than half of them: CrysLDM 3.0 % [2.1, 4.3]. Where they disagree:" in text
