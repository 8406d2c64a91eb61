"""Limits of what is read of a file, what is just below them, and texts built to break their reader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bench.crystal_io import folders as crystal_folders
from bench.crystal_io import parquet_tables as crystal_arrays
from bench.crystal_io import read_crystals, write_crystals
from bench.crystal_io import reading as crystal_io
from bench.crystal_io import streams as crystal_text
from bench.crystals import Crystals
from tests.bench.crystal_examples import HEAD, SITE, eval_gen, some_crystals


def test_a_crystal_of_too_many_atoms_is_a_reason_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crystals = some_crystals([3, 10, 4])
    for module in (crystal_io, crystal_text, crystal_io.read_extxyz.__module__, "bench.crystal_io.cif.crystal"):
        target = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{target}.MAX_ATOMS", 9)
    torch.save(eval_gen(crystals), tmp_path / "x.pt")
    for name in ("x.cif", "x.zip", "folder", "x.extxyz", "x.json", "x.csv", "x.parquet"):
        write_crystals(crystals, tmp_path / name)
    for name in ("x.cif", "x.zip", "folder", "x.extxyz", "x.json", "x.csv", "x.parquet", "x.pt"):
        result = read_crystals(tmp_path / name)
        assert result.filtered.crystals.num_atoms.tolist() == [3, 4], name
        (reason,) = result.reasons().values()
        assert "at most 9 are read" in reason, name


def test_as_many_atoms_as_are_allowed_are_read(tmp_path: Path) -> None:
    sites = np.stack(np.meshgrid(*[np.arange(18)] * 3), axis=-1).reshape(-1, 3)[: crystal_text.MAX_ATOMS] / 18
    crystals = Crystals([len(sites)], np.full(len(sites), 14), sites, 60 * np.eye(3))
    write_crystals(crystals, tmp_path / "x.extxyz")
    assert read_crystals(tmp_path / "x.extxyz").filtered.crystals.num_atoms.tolist() == [crystal_text.MAX_ATOMS]


def test_symmetry_that_would_fill_the_cell_with_images_is_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sites = "".join(f"Si Si{n} {x:.4f} {y:.4f} {z:.4f}\n" for n, (x, y, z) in enumerate(rng.random((60, 3))))
    (tmp_path / "x.cif").write_text(HEAD.replace("loop_", "_symmetry_space_group_name_H-M Fm-3m\nloop_") + sites)
    with pytest.raises(ValueError, match="11520 images of 60 atom sites; at most 10000 are placed"):
        read_crystals(tmp_path / "x.cif")
    (tmp_path / "p1.cif").write_text(HEAD.replace("loop_", "_symmetry_space_group_name_H-M 'P 1'\nloop_") + sites)
    assert read_crystals(tmp_path / "p1.cif").filtered.crystals.num_atoms.tolist() == [60]


def test_texts_that_took_other_parsers_hours_are_reasons_or_quick(tmp_path: Path) -> None:
    (tmp_path / "quotes.cif").write_text(HEAD + "'a" * 100_000)
    with pytest.raises(ValueError, match="not CIF: line 14"):
        read_crystals(tmp_path / "quotes.cif")
    (tmp_path / "digits.cif").write_text(HEAD.replace(" 9\n", f" {'1' * 300_000}x\n", 1) + SITE)
    with pytest.raises(ValueError, match="_cell_length_a is '1+', not a number"):
        read_crystals(tmp_path / "digits.cif")
    (tmp_path / "empty-lines.cif").write_text(HEAD + "\n" * 500_000 + SITE)
    assert len(read_crystals(tmp_path / "empty-lines.cif").filtered.crystals) == 1


def test_thousands_of_atoms_on_one_site_are_a_reason_at_once(tmp_path: Path) -> None:
    (tmp_path / "p1.cif").write_text(HEAD + "Si Si 0 0 0\n" * crystal_text.MAX_ATOMS)
    with pytest.raises(ValueError, match=r"atom sites \d+ and \d+ are one; remove one"):
        read_crystals(tmp_path / "p1.cif")


def test_symmetry_that_leaves_a_choice_takes_no_more_memory_for_many_atoms(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sites = "".join(f"Si Si{n} {x:.4f} {y:.4f} {z:.4f}\n" for n, (x, y, z) in enumerate(rng.random((52, 3))))
    (tmp_path / "x.cif").write_text(HEAD.replace("loop_", "_symmetry_Int_Tables_number 227\nloop_") + sites)
    with pytest.raises(ValueError, match="F d -3 m:1 or F d -3 m:2"):
        read_crystals(tmp_path / "x.cif")


def test_more_crystals_than_a_file_may_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_crystals(some_crystals([1] * 5), tmp_path / "x.extxyz")
    write_crystals(some_crystals([1] * 5), tmp_path / "x.parquet")
    write_crystals(some_crystals([1] * 5), tmp_path / "x.zip")
    for module in (crystal_io, crystal_arrays, crystal_folders):
        monkeypatch.setattr(module, "MAX_PLACES", 4)
    for name, says in (("x.extxyz", "more than 4 crystals"), ("x.parquet", "5 rows"), ("x.zip", "5 files; at most 4")):
        with pytest.raises(ValueError, match=says):
            read_crystals(tmp_path / name)


@pytest.mark.parametrize("name", ["x.cif", "x.csv.gz"])
def test_a_text_that_is_longer_than_any_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_crystals(some_crystals([1] * 5), tmp_path / name)
    monkeypatch.setattr(crystal_text, "MAX_TEXT_BYTES", 1000)
    with pytest.raises(ValueError, match="GiB of text; split it"):
        read_crystals(tmp_path / name)


def test_a_list_that_is_too_long_in_a_parquet_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_crystals(some_crystals([5, 300]), tmp_path / "x.parquet")
    monkeypatch.setattr(crystal_arrays, "MAX_VALUES", 500)
    with pytest.raises(ValueError, match=r"x\.parquet: 915 values of \d+ bytes in one group of rows"):
        read_crystals(tmp_path / "x.parquet")


def test_a_zip_whose_list_of_files_is_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_crystals(some_crystals([1] * 5), tmp_path / "x.zip")
    monkeypatch.setattr(crystal_folders, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(ValueError, match="not a zip file .its list of files has more than"):
        read_crystals(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 100_000, "structure 0: not JSON (nested too deeply)"),
        ('{"a":' * 100_000, "not JSON (nested too deeply)"),
        ('[{"lattice": ' + "[" * 100_000, "structure 0: not JSON (nested too deeply)"),
        ("[1" + "0" * 10_000 + "]", "not JSON (Exceeds the limit"),
        ('[{"sites": "\\ud800"}]', "none of its 1 could be read; structure 0: not a pymatgen structure"),
        ("[1, 2", "structure 1: not JSON"),
        ("[1 2]", "not JSON (neither , nor ] behind entry 0 of a list)"),
        ("[1] [", "not JSON (text behind its end)"),
        ('{"a": 1} x', "not JSON (text behind its end)"),
        ("[1,]", "structure 1: not JSON"),
    ],
)
def test_json_that_is_none_or_built_to_break_its_reader_is_one_line(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        read_crystals(tmp_path / "x.json")
    assert says in str(caught.value)


def test_a_list_of_structures_is_read_whatever_lies_between_them(tmp_path: Path) -> None:
    crystals = some_crystals([2, 3, 1])
    parts = [json.dumps(structure.as_dict()) for structure in crystals]
    padding = " \n\t" * 50_000  # more than is read at a time
    (tmp_path / "x.json").write_text(
        "\ufeff" + padding + "[" + padding + f"{padding},{padding}".join(parts) + padding + "]\n\n"
    )
    assert read_crystals(tmp_path / "x.json").filtered.crystals == crystals


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ('Lattice="nan 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3', "lattice is not finite"),
        ('Lattice="inf 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3', "not finite"),
        ('Lattice="3 0 0 0 3 0 0 0 0" Properties=species:S:1:pos:R:3', "lattice has volume 0"),
        ('Lattice="3 0 0" Properties=species:S:1:pos:R:3', ""),
        ('Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:999999999', "no columns of an atom"),
        ('Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:-3', "no columns of an atom"),
        ('Lattice="3 0 0 0 3 0 0 0 3" Properties=pos:R:3', ""),
        ('lattice="3 0 0 0 3 0 0 0 3" info="_JSON ' + "[" * 20_000 + '"', None),
    ],
)
def test_a_frame_with_an_impossible_header_costs_that_frame(header: str, says: str | None, tmp_path: Path) -> None:
    good = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nSi 0 0 0\n'
    (tmp_path / "x.extxyz").write_text(f"1\n{header}\nSi 0 0 0\n{good}")
    result = read_crystals(tmp_path / "x.extxyz")
    assert len(result.filtered.crystals) == (2 if says is None else 1)
    assert says is None or says in result.reasons()["frame 0"]


def test_columns_of_the_wrong_type_in_parquet_are_one_line(tmp_path: Path) -> None:
    write_crystals(some_crystals([2, 3]), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    wrong = {
        "numbers": table.set_column(2, "atomic_numbers", pa.array(["Si", "O"])),
        "lattice": table.set_column(4, "lattice", pa.array([1.0, 2.0])),
        "counts": table.set_column(1, "num_atoms", pa.array([[2], [3]])),
        "cif": pa.table({"cif": [[1, 2], [3]]}),
        "bytes": pa.table({"structure": [b"\xff\xfe", b"\x00"]}),
        "integers": pa.table({"cif": [1, 2]}),
    }
    for name, content in wrong.items():
        pq.write_table(content, tmp_path / f"{name}.parquet")
        with pytest.raises(ValueError) as caught:
            read_crystals(tmp_path / f"{name}.parquet")
        assert str(caught.value).startswith(f"{tmp_path / name}.parquet: "), name
        assert "\n" not in str(caught.value), name


def test_structures_as_nested_columns_of_parquet_are_read(tmp_path: Path) -> None:
    crystals = some_crystals([2, 3])
    structures = [{key: s.as_dict()[key] for key in ("lattice", "sites")} for s in crystals]
    for structure in structures:
        structure["sites"] = [{"species": site["species"], "abc": site["abc"]} for site in structure["sites"]]
    pq.write_table(pa.table({"structure": [*structures, None]}), tmp_path / "x.parquet")
    result = read_crystals(tmp_path / "x.parquet")
    assert result.filtered.crystals == crystals
    assert list(result.reasons()) == ["row 2"]
