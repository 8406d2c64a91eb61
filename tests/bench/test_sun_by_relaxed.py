"""S.U.N. by relaxed crystals in the summary of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.parquet import read_table, write_table
from bench.run_folder.summary import TaskTables, by_relaxed, is_rate
from bench.statistics import Metric, wilson
from bench.store import Run
from tests.bench.finished_runs import finished_run


def found(root: Path) -> dict[str, Metric]:
    run = Run.open(root)
    return by_relaxed(run, "one", 0, TaskTables(run, "one", 0))


def stable_are(root: Path, rows: list[int]) -> None:
    place = root / "one" / "stability.parquet"
    table = read_table(place)
    values = pa.array(np.isin(np.arange(7), rows))
    write_table(place, table.set_column(table.schema.get_field_index("stable"), "stable", values))


def test_it_is_a_share_of_all_crystals_that_were_asked_for(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    stable_are(run, [0, 2, 6])
    assert found(run) == {"sun_rate_relaxed": wilson(3, 7)}
    assert is_rate("sun_rate_relaxed")


@pytest.mark.parametrize("tasks", [("stability",), ("validity", "novelty")])
def test_a_run_without_stability_or_novelty_has_none(tasks: tuple[str, ...], tmp_path: Path) -> None:
    assert found(finished_run(tmp_path / "run", tasks=tasks)) == {}


def test_a_run_that_keeps_no_relaxed_crystals_has_none(tmp_path: Path) -> None:
    assert found(finished_run(tmp_path / "run", relaxed=False)) == {}


def test_where_a_stable_crystal_was_not_kept_a_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run(tmp_path / "run")
    assert found(run) == {}
    assert "no sun_rate_relaxed, 4 of 5 stable crystals were kept" in capsys.readouterr().err
