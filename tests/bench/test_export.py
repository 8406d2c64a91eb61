"""Crystals of a run in a file: which they are, that they read back, and what is refused."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ase.io import read as read_ase
from pymatgen.core import Structure

from bench.commands.archive import pack
from bench.crystal_io import read_crystals
from bench.crystal_io.with_properties import write_with_properties
from bench.crystals import Crystals
from bench.parquet import read_table, write_table
from tests.bench.finished_runs import PLACES, crystals_of, finished_run, relaxed_of
from tests.command_line import bench

ENDINGS = (".zip", ".extxyz", ".parquet")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished_run(tmp_path / "run")


def exported(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert bench("export", *arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert bench("export", *arguments) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def same(one: Structure, other: Structure) -> bool:
    """Whether two crystals are the same to 1e-6, the order of atoms and the turn of the cell aside."""
    edges = np.allclose(one.lattice.parameters, other.lattice.parameters, atol=1e-6, rtol=0)
    if sorted(one.atomic_numbers) != sorted(other.atomic_numbers) or not edges:
        return False
    apart = one.frac_coords[:, None] - other.frac_coords[None]
    close = (np.abs(apart - np.round(apart)) < 1e-6).all(axis=2)
    alike = np.equal.outer(one.atomic_numbers, other.atomic_numbers)
    return bool((close & alike).any(axis=1).all())


def rows_of(path: Path) -> list[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        return list(csv.DictReader(io.StringIO(archive.read("properties.csv").decode())))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("options", [[], ["--relaxed"]])
def test_what_is_written_reads_back_as_the_same_crystals(
    ending: str, options: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(capsys, run, *options, "--out", tmp_path / f"file{ending}")
    wanted = relaxed_of(crystals_of(0))[[0, 1, 3, 5]] if options else crystals_of(0)
    found = read_crystals(tmp_path / f"file{ending}")
    assert len(found.filtered.crystals) == found.filtered.requested == len(wanted)
    assert all(same(a, b) for a, b in zip(found.filtered.crystals, wanted, strict=True))


def test_parquet_holds_the_crystals_exactly(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(capsys, run, "--out", tmp_path / "file.parquet")
    assert read_crystals(tmp_path / "file.parquet").filtered.crystals == crystals_of(0)


@pytest.mark.parametrize(("only", "places"), [("valid", [0, 2, 3, 4, 6]), ("stable", [0, 3, 4, 5, 6]), ("sun", [0, 6])])
def test_a_filter_takes_the_crystals_of_which_the_tables_say_so(
    only: str, places: list[int], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(capsys, run, "--only", only, "--out", tmp_path / "file.parquet")
    assert read_table(tmp_path / "file.parquet")["index"].to_pylist() == places


def test_every_crystal_that_exists_is_written_without_a_filter(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "6 of 7 crystals, all that exist, as generated" in exported(capsys, run, "--out", tmp_path / "file.zip")
    assert [int(row["index"]) for row in rows_of(tmp_path / "file.zip")] == PLACES.tolist()


def test_what_is_not_known_to_be_novel_is_left_out_with_a_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = exported(capsys, run, "--only", "sun", "--out", tmp_path / "file.zip")
    assert "left out: 1 stable and unique, of which it is not known whether they are novel" in text


def test_a_crystal_without_a_relaxed_geometry_is_left_out_by_name_and_reason(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = exported(capsys, run, "--relaxed", "--out", tmp_path / "file.zip")
    assert "4 of 7 crystals, all that exist, relaxed by chgnet" in text
    assert "1 without a relaxed geometry (over-dense): one-3" in text
    assert "1 without a relaxed geometry (the hull has no phase of Xe): one-5" in text


def test_each_file_of_a_zip_has_a_row_of_properties(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(capsys, run, "--relaxed", "--only", "stable", "--out", tmp_path / "file.zip")
    rows = rows_of(tmp_path / "file.zip")
    assert [row["file"] for row in rows] == ["0-one-0.cif", "1-one-4.cif", "2-one-6.cif"]
    assert list(read_crystals(tmp_path / "file.zip").names) == [row["file"] for row in rows]
    known = {"model": "one", "repeat": "0", "formula": crystals_of(0).formula(3), "energy": "-4.0", "rmsd": "0.1"}
    known |= {"e_above_hull": "0.05", "stable_probability": "0.5", "formation_energy_per_atom": "-0.5"}
    assert known.items() <= rows[1].items()


def test_ase_reads_the_energy_beside_a_relaxed_geometry_and_none_beside_another(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(capsys, run, "--relaxed", "--out", tmp_path / "relaxed.extxyz")
    exported(capsys, run, "--out", tmp_path / "given.extxyz")
    relaxed, given = (read_ase(tmp_path / name, index=0) for name in ("relaxed.extxyz", "given.extxyz"))
    assert relaxed.get_potential_energy() == -4.0
    assert given.calc is None
    assert given.info["energy_per_atom"] == -1.0


def test_models_and_repeats_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run(tmp_path / "run", ["one", "other"], repeats=2)
    assert "(one 12, other 12)" in exported(capsys, run, "--out", tmp_path / "file.zip")
    found = read_crystals(tmp_path / "file.zip").filtered.crystals
    wanted = Crystals.concatenate([crystals_of(model, repeat) for model in (0, 1) for repeat in (0, 1)])
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))
    assert rows_of(tmp_path / "file.zip")[6]["file"] == "06-one-repeat-1-0.cif"
    exported(capsys, run, "--model", "other", "--out", tmp_path / "other.zip")
    assert {(row["model"], row["repeat"]) for row in rows_of(tmp_path / "other.zip")} == {
        ("other", "0"),
        ("other", "1"),
    }


def test_the_first_potential_decides_unless_another_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "run", tasks=["validity", "stability", "stability-m3gnet"])
    text = exported(capsys, run, "--only", "stable", "--out", tmp_path / "first.parquet")
    assert "stable by chgnet (also: --potential m3gnet)" in text
    exported(capsys, run, "--only", "stable", "--potential", "m3gnet", "--out", tmp_path / "second.parquet")
    assert read_table(tmp_path / "second.parquet")["index"].to_pylist() == [2]
    assert "has stability by chgnet, m3gnet" in refused(capsys, run, "--potential", "x", "--out", tmp_path / "x.zip")


def test_an_archive_gives_the_same_bytes_as_its_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(run, tmp_path / "packed.zip")
    for name, source in (("a.parquet", run), ("b.parquet", tmp_path / "packed.zip")):
        exported(capsys, source, "--relaxed", "--out", tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_names_that_are_wrong_are_refused_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.zip").touch()
    assert "is there already" in refused(capsys, run, "--out", tmp_path / "there.zip")
    assert "known are .zip, .extxyz, .parquet" in refused(capsys, run, "--out", tmp_path / "file.cif")
    assert "no model 'two' in it; it has one" in refused(capsys, run, "--model", "two", "--out", tmp_path / "a.zip")
    assert "no run there" in refused(capsys, tmp_path, "--out", tmp_path / "a.zip")


def test_a_run_without_what_the_filter_needs_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "run", tasks=["validity"])
    for options in (["--only", "stable"], ["--relaxed"], ["--potential", "chgnet"]):
        assert "has no stability; `bench rescore" in refused(capsys, run, *options, "--out", tmp_path / "a.zip")
    run = finished_run(tmp_path / "other", tasks=["stability"])
    assert "--tasks novelty` writes it" in refused(capsys, run, "--only", "sun", "--out", tmp_path / "a.zip")


def test_a_run_that_keeps_no_relaxed_crystals_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "run", relaxed=False)
    text = refused(capsys, run, "--relaxed", "--out", tmp_path / "a.zip")
    assert "--tasks stability` relaxes them" in text
    assert not (tmp_path / "a.zip").exists()


def test_a_run_that_is_not_finished_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "summary.json").unlink()
    assert "not finished" in refused(capsys, run, "--out", tmp_path / "a.zip")


def test_no_crystal_that_passes_the_filter_is_an_error_and_no_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_table(run / "one" / "validity.parquet")
    write_table(run / "one" / "validity.parquet", table.set_column(2, "valid", pa.array([False] * 7)))
    text = refused(capsys, run, "--only", "valid", "--out", tmp_path / "a.zip")
    assert "no crystal to write; 0 of 7 crystals, valid, as generated" in text
    assert not (tmp_path / "a.zip").exists()


def test_columns_and_a_line_say_what_relaxing_changed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = exported(capsys, run, "--out", tmp_path / "file.parquet")
    assert "changed by relaxing: 0 of 4 in space group" in text
    table = read_table(tmp_path / "file.parquet")
    assert table["space_group_as_generated"].to_pylist() == [1] * 6
    assert table["space_group_relaxed"].to_pylist() == [1, 1, None, 1, None, 1]
    assert table["novel_relaxed"].to_pylist() == [True, True, None, True, None, True]
    assert table["valid_relaxed"].null_count == 2


def test_a_run_without_relaxed_crystals_has_no_such_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_run(tmp_path / "run", relaxed=False)
    assert "changed by relaxing" not in exported(capsys, run, "--out", tmp_path / "file.parquet")
    assert "space_group_relaxed" not in read_table(tmp_path / "file.parquet").column_names


def test_a_run_on_a_data_set_that_is_gone_is_written_without_novelty_of_relaxed_crystals(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace("perov5", "gone"))
    assert bench("export", run, "--out", tmp_path / "file.parquet") == 0
    assert "no column novel_relaxed: unknown data set" in capsys.readouterr().err
    columns = read_table(tmp_path / "file.parquet").column_names
    assert "space_group_relaxed" in columns
    assert "novel_relaxed" not in columns


@pytest.mark.parametrize("text", ["x=y", "two\nlines", 'a "b" = {c', "back\\slash", "d] [in e.cif]", "it's"])
def test_a_reason_with_any_signs_spoils_no_frame(text: str, tmp_path: Path) -> None:
    properties = pa.table({"index": list(range(6)), "stability_reason": [text] * 6})
    write_with_properties(crystals_of(0), properties, list("abcdef"), tmp_path / "file.extxyz")
    found = read_crystals(tmp_path / "file.extxyz").filtered
    assert len(found.crystals) == found.requested == 6
    assert read_ase(tmp_path / "file.extxyz", index=5).info["index"] == 5
