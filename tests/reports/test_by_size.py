"""Rates by the number of atoms: over the crystals of each group, with intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.parquet import write_table
from bench.statistics import wilson
from bench.store import Run
from reports.page.html_page import render as render_page
from reports.tables.by_size import render
from tests.stored_crystal_runs import whole_run

MakeRun = Callable[..., Path]


def with_sizes(folder: Path, sizes: list[int | None]) -> Path:
    path = Run.open(folder).folders("crysldm")[0].path / "distribution.parquet"
    write_table(path, pa.table({"index": np.arange(len(sizes)), "num_atoms": pa.array(sizes, pa.int64())}))
    return folder


def test_rates_are_those_of_the_crystals_of_each_group(make_run: MakeRun) -> None:
    # Stable: the first four; new: every second one.
    folder = whole_run(make_run, {"crysldm": [0.0, 0.0, 0.05, 0.05, 0.3, None, 0.5]})
    with_sizes(folder, [5, 1, 6, 25, 10, 20, None])
    rows = {row["atoms"]: row for row in csv.DictReader(io.StringIO(render([folder], "csv")))}
    assert {atoms: int(row["crystals"]) for atoms, row in rows.items()} == {"1-5": 2, "6-10": 2, "11-20": 1, "> 20": 1}
    assert float(rows["1-5"]["stable"]) == 1 and float(rows["6-10"]["stable"]) == 0.5
    assert float(rows["1-5"]["sun"]) == 0.5 and float(rows["> 20"]["sun"]) == 0
    assert float(rows["6-10"]["stable_low"]) == pytest.approx(wilson(1, 2).low)
    assert "50.0 [9.5, 90.5]" in render([folder])


def test_a_run_without_sizes_says_how_to_get_them(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="were not counted; `python -m bench rescore .* --tasks distribution`"):
        render([whole_run(make_run, {"crysldm": [0.0]})])


def test_the_page_has_the_table_of_the_models_whose_atoms_were_counted(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.page.figures.inline_svg", lambda draw, name: "<svg></svg>")
    folder = whole_run(make_run, {"crysldm": [0.0, 0.3, None]})
    assert "Rates by number of atoms" not in render_page([folder])
    page = render_page([with_sizes(folder, [5, 25, None])])
    assert 'id="perov5-sizes-table"' in page and "&gt; 20" in page
