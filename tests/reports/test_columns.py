"""Wide tables: ten columns on a terminal, others by name, all of them on the page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.page.html_page import further_tables
from reports.page.html_page import render as render_page
from reports.run_results import read_results
from reports.tables import leaderboard
from reports.tables.chosen_columns import column_of
from reports.tables.columns import COLUMNS
from reports.tables.table1 import render

MakeRun = Callable[..., Path]
ALL_TASKS = ("validity", "properties", "stability")


def columns_of(text: str) -> int:
    """Columns of a text table, by the rule under its titles."""
    rule = next(line for line in text.splitlines() if re.fullmatch(r"[- ]+", line) and "-" in line)
    return len(rule.split())


@pytest.fixture
def wide(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has every column of Table 1."""
    folder = make_run({"crysldm": {"stable": 30}, "diffcsp": {"stable": 20}}, tasks=ALL_TASKS)
    monkeypatch.setattr("reports.tables.table1.shown_columns", lambda results: list(COLUMNS))
    return folder


@pytest.mark.parametrize("paper", [False, True])
def test_the_default_table_on_a_terminal_has_at_most_ten_columns(wide: Path, paper: bool) -> None:
    text = render([wide], paper=paper)
    assert columns_of(text) == 10
    assert "(Perov-5)" in text.splitlines()[0]
    assert ("Left out: steps_per_stable;" in text) is not paper
    assert "--columns` shows any metric" in text


def test_two_data_sets_stay_within_ten_columns_with_their_names(make_run: MakeRun) -> None:
    runs = [make_run({"crysldm": {"stable": 3}}, name=d, dataset=d, tasks=ALL_TASKS) for d in ("perov5", "mp20")]
    text = render(runs)
    assert columns_of(text) == 10 and "MP-20" in text and "Perov-5" in text
    assert columns_of(leaderboard.render(runs)) == 10


@pytest.mark.parametrize("by", [None, "emd_density"])
def test_the_leaderboard_has_at_most_ten_columns(make_run: MakeRun, by: str | None) -> None:
    assert columns_of(leaderboard.render([make_run({"a": {"stable": 3}, "b": {"stable": 30}})], by)) == 10


def test_columns_can_be_chosen_in_any_order_among_all_metrics(wide: Path) -> None:
    text = render([wide], columns=["emd_density_floor", "valid_composition"])
    assert columns_of(text) == 4
    assert text.index("emd_density_floor") < text.index("compos.")
    assert "0.104" in text and "test split:" not in text  # nothing is known of it in these columns


def test_chosen_columns_are_the_only_ones_in_csv(wide: Path) -> None:
    (row, _) = csv.DictReader(io.StringIO(render([wide], "csv", columns=["stable_rate"])))
    assert {name for name in row if name.startswith(("stable", "valid", "steps"))} == {
        "stable_rate",
        "stable_rate_low",
        "stable_rate_high",
        "stable_rate_n",
    }


def test_an_unknown_column_is_named_with_those_there_are(wide: Path) -> None:
    with pytest.raises(
        ValueError, match="--columns speed: there is no such metric in these runs; they have valid_comp"
    ):
        render([wide], columns=["valid_composition", "speed"])


def test_metrics_without_a_column_of_their_own_are_percent_only_where_they_are_shares() -> None:
    assert column_of("p1_share").title == "p1_share (%)" and column_of("cov_recall").show(0.5, 10) == "50.0"
    assert column_of("amsd_recall").title == "amsd_recall" and column_of("mine").group == "Other"


def test_the_page_has_all_metrics_folded_by_group(wide: Path) -> None:
    tables = further_tables(read_results([wide]))
    shown = {header.text for table in tables for header in table.headers}
    assert {"emd_density_floor", "valid_composition_icsd24 (%)"} <= shown
    page = render_page([wide])
    assert page.count("<summary>More metrics: ") == len(tables) > 1
