"""Figure 2: the same bins for all models, nothing left out in silence, the same files for the same run."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.parquet import write_table
from bench.store import Run
from reports.figures.figure2 import draw, write_reports
from reports.figures.hull_histogram import HullHistogram, bin_edges, histograms_csv, hull_histograms
from reports.run_results import read_results

MakeRun = Callable[..., Path]
TASKS = ("validity", "properties", "stability")
Energies = Sequence[float | None]


def relaxed(folder: Path, model: str, energies: Energies, converged: Sequence[bool] | None = None) -> None:
    """Writes the table of the task stability of one model."""
    for sample in Run.open(folder).folders(model):
        sample.path.mkdir(parents=True, exist_ok=True)
        table = {
            "index": np.arange(len(energies)),
            "e_above_hull": pa.array(energies, pa.float64()),
            "stable": [energy is not None and energy < 0.1 for energy in energies],
            "converged": [energy is not None for energy in energies] if converged is None else list(converged),
        }
        write_table(sample.path / "stability.parquet", pa.table(table))


@pytest.fixture
def make_relaxed(make_run: MakeRun) -> MakeRun:
    """A finished run whose models have these energies above hull."""

    def make(models: Mapping[str, Energies], **changes: object) -> Path:
        sizes = {name: {"n": len(energies), "valid": len(energies)} for name, energies in models.items()}
        folder = make_run(sizes, tasks=TASKS, **changes)
        for name, energies in models.items():
            relaxed(folder, name, energies)
        return folder

    return make


def table_of(folder: Path) -> str:
    return histograms_csv("perov5", hull_histograms(read_results([folder])))


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table_of(folder))))


def sample(seed: int, scale: float, n: int = 300) -> list[float]:
    return (np.random.default_rng(seed).gamma(2, scale, n) - 0.05).tolist()


def test_the_three_files_are_written_and_named(make_relaxed: MakeRun) -> None:
    folder = make_relaxed({"crysldm": sample(0, 0.2), "diffcsp": sample(1, 0.3)})
    assert write_reports([folder]) == f"Figure 2: {folder}/report/figure2.png, .pdf, .csv"
    assert (folder / "report" / "figure2.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "report" / "figure2.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "report" / "figure2.csv").read_text() == table_of(folder)


def test_every_crystal_asked_for_is_in_one_row_of_the_csv(make_relaxed: MakeRun) -> None:
    energies = [*sample(0, 0.2), None, None, 50.0, -30.0, float("nan"), float("inf")]
    folder = make_relaxed({"crysldm": energies, "diffcsp": sample(1, 0.3)})
    rows = [row for row in rows_of(folder) if row["model"] == "CrysLDM"]
    assert sum(int(row["crystals"]) for row in rows) == len(energies)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1)
    known = np.array([energy for energy in energies if energy is not None and np.isfinite(energy)])
    for row in rows:
        low, high = (float(row[end] or sign * np.inf) for end, sign in (("low", -1), ("high", 1)))
        if row["low"] or row["high"]:
            assert int(row["crystals"]) == ((known >= low) & (known < high)).sum(), row
        else:
            assert int(row["crystals"]) == 4  # two without an energy, and two that are not finite
    assert float(rows[0]["median"]) == pytest.approx(np.median(known))


def test_all_models_have_the_same_bins_and_the_threshold_is_an_edge(make_relaxed: MakeRun) -> None:
    folder = make_relaxed({"crysldm": sample(0, 0.05), "diffcsp": sample(1, 0.9)})
    bins = {
        model: [(row["low"], row["high"]) for row in rows_of(folder) if row["model"] == model]
        for model in ("CrysLDM", "DiffCSP")
    }
    assert bins["CrysLDM"] == bins["DiffCSP"]
    assert "0.100" in {low for low, _ in bins["CrysLDM"]}


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.3, 0.6, 1.5, 40])
def test_bins_are_even_start_at_or_below_zero_and_have_the_threshold_as_an_edge(scale: float) -> None:
    energies = np.array(sample(0, scale))
    edges = bin_edges(energies)
    np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])
    assert 0.1 in edges
    assert 0.0 in edges
    assert edges[0] <= 0
    assert 20 <= len(edges) <= 61
    if scale < 1:
        assert (energies <= edges[-1]).mean() >= 0.9
    assert (bin_edges(energies[:200]) == edges).all()  # a similar run has the same


def test_crystals_that_did_not_converge_are_told_apart(make_relaxed: MakeRun) -> None:
    folder = make_relaxed({"crysldm": [0.05, 0.05, 0.2, 0.2]})
    relaxed(folder, "crysldm", [0.05, 0.05, 0.2, 0.2], [True, False, False, False])
    counts = {(r["crystals"], r["not_converged"]) for r in rows_of(folder) if r["crystals"] == "2"}
    assert counts == {("2", "1"), ("2", "2")}


def test_the_panel_says_the_median_and_what_lies_beyond_its_edges() -> None:
    energies = np.array([0.3] * 90 + [1.2] * 5 + [-9.0] * 2)
    edges = bin_edges(energies)
    histogram = HullHistogram.of("CrysLDM", 100, energies, np.ones(97, dtype=bool), edges, 0.1)
    (panel,) = draw([histogram], "MP-20").axes
    words = panel.get_title(loc="right")
    assert words == "median 0.30 [0.30, 0.30], 5.0 % above 0.5 →, 2.0 % below -1, 3.0 % no energy"
    assert panel.get_title(loc="left") == "CrysLDM"


def test_bars_are_percent_of_the_crystals_asked_for_on_shared_axes() -> None:
    edges = bin_edges(np.array([0.3]))
    energies, converged = np.full(50, 0.3), np.ones(50, dtype=bool)
    histograms = [HullHistogram.of(name, n, energies, converged, edges, 0.1) for name, n in (("a", 100), ("b", 200))]
    panels = draw(histograms, "MP-20").axes
    heights = [max(bar.get_bbox().height for bar in panel.patches) for panel in panels]  # type: ignore[attr-defined]
    assert heights == pytest.approx([50, 25])
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[0].get_xlim() == panels[1].get_xlim() == (edges[0], edges[-1])


def test_repeats_of_a_model_are_taken_together(make_run: MakeRun) -> None:
    folder = make_run({"crysldm": {"n": 4, "valid": 4}}, tasks=TASKS)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["crysldm"]["repeats"] = 2
    (folder / "manifest.json").write_text(json.dumps(manifest))
    relaxed(folder, "crysldm", [0.05, 0.2])
    assert sum(int(row["crystals"]) for row in rows_of(folder)) == 4


def test_a_run_without_relaxed_crystals_is_passed_over(make_run: MakeRun, make_relaxed: MakeRun) -> None:
    bare = make_run({"crysldm": {}}, name="bare")
    unscored = make_run({"crysldm": {}}, name="unscored", tasks=TASKS)
    assert write_reports([bare, unscored]) == ""
    assert not (bare / "report").exists()
    assert write_reports([bare, make_relaxed({"crysldm": [0.1]})]).count("Figure 2") == 1


def test_no_crystal_with_an_energy_still_gives_a_figure(make_relaxed: MakeRun) -> None:
    folder = make_relaxed({"crysldm": [None, None]})
    assert write_reports([folder])
    assert {row["median"] for row in rows_of(folder)} == {""}


def test_the_same_run_gives_the_same_bytes_whatever_the_users_settings(
    make_relaxed: MakeRun,
) -> None:
    import matplotlib

    folder = make_relaxed({"crysldm": sample(0, 0.2)})
    files = [folder / "report" / f"figure2.{suffix}" for suffix in ("png", "pdf", "csv")]
    write_reports([folder])
    before = [file.read_bytes() for file in files]
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20, "pdf.fonttype": 3, "savefig.dpi": 30}):
        write_reports([folder])
    assert [file.read_bytes() for file in files] == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_says_so(make_relaxed: MakeRun) -> None:
    folder = make_relaxed({"crysldm": [0.1]})
    folder.chmod(0o500)
    try:
        with pytest.raises(OSError, match="report"):
            write_reports([folder])
    finally:
        folder.chmod(0o700)
