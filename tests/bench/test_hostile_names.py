"""Names, links, archives and tables made to mislead: what they hold is read or counted, and nothing else is touched."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.crystal_io import read_crystals, write_crystals
from tests.bench.crystal_examples import cif, same_atoms, some_crystals


def test_links_are_followed_within_the_folder_and_are_reasons_otherwise(tmp_path: Path) -> None:
    good = some_crystals([2, 3])
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    (folder / "sub" / "0.cif").write_text(cif(good, 0))
    (outside / "secret.cif").write_text(cif(good, 1))
    (folder / "1.cif").symlink_to(folder / "sub" / "0.cif")
    (folder / "2.cif").symlink_to(outside / "secret.cif")
    (folder / "3.cif").symlink_to(folder / "nothing.cif")
    (folder / "4.cif").symlink_to(folder / "4.cif")
    (folder / "more").symlink_to(outside)
    os.mkfifo(folder / "5.cif")
    result = read_crystals(folder)
    assert result.filtered.crystals.num_atoms.tolist() == [2, 2]
    assert result.reasons() == {
        "2.cif": "a link that leads out of the folder; copy the file here",
        "3.cif": "a link to nothing",
        "4.cif": "a link to nothing",
        "5.cif": "neither a file nor a folder",
        "more": "a link to a folder, which is not followed; copy the folder here",
    }


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.cif")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        read_crystals(tmp_path / "x.cif")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_may_not_be_read_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(cif(some_crystals([2])))
    (tmp_path / "b.cif").touch(mode=0o000)
    (tmp_path / "closed").mkdir(mode=0o000)
    try:
        reasons = read_crystals(tmp_path).reasons()
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert "Permission denied" in reasons["b.cif"]
    assert "Permission denied" in reasons["closed"]


def test_names_and_reasons_from_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    good = some_crystals([2])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a\x1b[2J\n.cif", "rubbish")
        archive.writestr("b" * 2000 + ".cif", "rubbish")
        archive.writestr("c.cif", cif(good).replace("_atom_site_type_symbol", "_x").replace(" Rb", " \x1b[1mRb"))
        archive.writestr("d.cif", cif(good))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "d.cif").write_text(cif(good))
    with open(os.path.join(os.fsencode(folder), b"\xff.cif"), "w") as file:
        file.write("rubbish")
    (tmp_path / "x.json").write_text(json.dumps([good.structure(0).as_dict(), {"lattice": {"matrix": "\ud800\x07"}}]))
    for name in ("x.zip", "folder", "x.json"):
        result = read_crystals(tmp_path / name)
        assert result.reasons()
        for text in [*result.names, *result.reasons().values()]:
            assert text.isprintable(), name
            assert len(text) < 600, name
            text.encode()  # no half of a pair: such a text cannot be stored
    assert read_crystals(tmp_path / "x.zip").names[0] == "a\\x1b[2J\\n.cif"


def test_a_file_without_a_name_in_a_zip_harms_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.cif", cif(some_crystals([2])))
        archive.writestr("b", "rubbish")
    content = (tmp_path / "x.zip").read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    (tmp_path / "x.zip").write_bytes(content[:entry] + content[entry:].replace(b"b", b"\0", 1))
    assert read_crystals(tmp_path / "x.zip").names == ("a.cif",)


def test_places_of_one_name_have_different_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for text in (cif(some_crystals([2])), "rubbish", "other rubbish"):
            if "a.cif" in archive.namelist():
                with pytest.warns(UserWarning, match="Duplicate name"):
                    archive.writestr("a.cif", text)
            else:
                archive.writestr("a.cif", text)
    result = read_crystals(tmp_path / "x.zip")
    assert result.names == ("a.cif", "a.cif (no. 2 of this name)", "a.cif (no. 3 of this name)")
    assert len(result.reasons()) == 2


def test_packed_files_in_folders_and_zips_are_read_and_damaged_ones_are_reasons(tmp_path: Path) -> None:
    good = some_crystals([2, 3])
    packed = [gzip.compress(cif(good, index).encode()) for index in range(2)]
    (tmp_path / "folder").mkdir()
    for number, content in enumerate([*packed, packed[0][:-20], b"not gzip", packed[1] + b"rest"]):
        (tmp_path / "folder" / f"{number}.cif.gz").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in sorted((tmp_path / "folder").iterdir()):
            archive.write(file, file.name)
    for name in ("folder", "x.zip"):
        result = read_crystals(tmp_path / name)
        assert list(result.reasons()) == ["2.cif.gz", "3.cif.gz", "4.cif.gz"], name
        assert all("damaged gzip file" in reason for reason in result.reasons().values()), result.reasons()
        assert same_atoms(result.filtered.crystals, good)


def test_a_cut_gzip_of_many_frames_counts_those_before_the_cut_and_says_so(tmp_path: Path) -> None:
    write_crystals(some_crystals([5] * 200), tmp_path / "x.extxyz")
    whole = gzip.compress((tmp_path / "x.extxyz").read_bytes())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.extxyz.gz").write_bytes(whole[: len(whole) // 2])
    result = read_crystals(tmp_path / "folder")
    assert 0 < len(result.filtered.crystals) < 200
    assert "damaged gzip file" in result.reasons()["x.extxyz.gz"]
    (tmp_path / "x.extxyz.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged gzip file"):
        read_crystals(tmp_path / "x.extxyz.gz")


def test_several_crystals_in_one_cell_of_a_table_are_not_one_of_them(tmp_path: Path) -> None:
    good = some_crystals([2, 3])
    texts = [cif(good, 0), cif(good, 0) + cif(good, 1), "data_about\n_journal_year 1998\n" + cif(good, 1)]
    pq.write_table(pa.table({"cif": texts}), tmp_path / "x.parquet")
    result = read_crystals(tmp_path / "x.parquet")
    assert result.filtered.crystals.num_atoms.tolist() == [2, 3]
    assert result.reasons() == {"row 1": "2 crystals where one belongs"}
