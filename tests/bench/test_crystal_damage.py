"""Damaged, foreign and hostile files: one bad crystal costs one crystal, and nothing in a file is run."""

import gzip
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pymatgen.core import Lattice, Structure

from bench.crystal_io import folders as crystal_folders
from bench.crystal_io import read_crystals, write_crystals
from bench.crystals import Crystals
from tests.bench.crystal_examples import FORMATS, cif, eval_gen, same_atoms, some_crystals

# Damage: one bad crystal costs one crystal


def test_one_bad_file_in_a_zip_costs_one_crystal(tmp_path: Path) -> None:
    good = some_crystals([2, 3])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("10.cif", cif(good, 1))
        archive.writestr("2.cif", cif(good, 0))
        archive.writestr("3.cif", "data_x\n_cell_length_a 3")
        archive.writestr("4.cif", b"\xff\xfe\x00")
        archive.writestr("5.cif", "")
        archive.writestr("README.txt", "hello")
        archive.writestr("__MACOSX/._2.cif", "resource fork")
    result = read_crystals(tmp_path / "x.zip")
    assert result.names == ("2.cif", "3.cif", "4.cif", "5.cif", "10.cif")
    assert list(result.reasons()) == ["3.cif", "4.cif", "5.cif"]
    assert same_atoms(result.filtered.crystals, good)


def test_a_damaged_member_of_a_zip_costs_one_crystal(tmp_path: Path) -> None:
    write_crystals(some_crystals([4, 4, 4]), tmp_path / "x.zip")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    second = content.index(b"0001.cif")
    content[second + 40 : second + 60] = bytes(20)
    (tmp_path / "x.zip").write_bytes(content)
    result = read_crystals(tmp_path / "x.zip")
    assert list(result.reasons()) == ["0001.cif"]
    assert len(result.filtered.crystals) == 2


def test_a_zip_may_not_climb_out_nor_swell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = some_crystals([2])
    monkeypatch.setattr(crystal_folders, "MAX_TEXT_BYTES", 2**22)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside.cif", cif(good))
        archive.writestr("/etc/absolute.cif", cif(good))
        archive.writestr("a\\..\\..\\windows.cif", cif(good))
        archive.writestr("bomb.cif", bytes(2**21))
        archive.writestr("good.cif", cif(good))
    result = read_crystals(tmp_path / "x.zip")
    assert [name for name in result.names if name not in result.reasons()] == ["good.cif"]
    assert sum("climbs out" in reason for reason in result.reasons().values()) == 3
    assert "more than 1048576 characters of CIF" in result.reasons()["bomb.cif"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["x.zip"]
    monkeypatch.setattr(crystal_folders, "MAX_TEXT_BYTES", 2**21)
    with pytest.raises(ValueError, match=r"x\.zip: 0\.0 GiB unpacked; at most"):
        read_crystals(tmp_path / "x.zip")


def test_two_files_of_one_name_in_a_zip_are_two_crystals(tmp_path: Path) -> None:
    good = some_crystals([2, 3])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.cif", cif(good, 0))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.cif", cif(good, 1))
    assert read_crystals(tmp_path / "x.zip").filtered.crystals.num_atoms.tolist() == [2, 3]


def test_folders_are_read_with_their_subfolders_in_natural_order(tmp_path: Path) -> None:
    good = some_crystals([1, 2, 3, 4])
    for index, name in enumerate(["a/2.cif", "a/10.cif", "b.cif", "a/1.CIF"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(cif(good, index))
    (tmp_path / ".hidden.cif").write_text("nothing")
    result = read_crystals(tmp_path)
    assert result.names == ("a/1.CIF", "a/2.cif", "a/10.cif", "b.cif")
    assert result.filtered.crystals.num_atoms.tolist() == [4, 1, 2, 3]


def test_a_folder_of_extended_xyz_files_gives_all_frames_of_each(tmp_path: Path) -> None:
    write_crystals(some_crystals([1, 2, 3]), tmp_path / "a.extxyz")
    write_crystals(some_crystals([4, 5]), tmp_path / "b.extxyz")
    result = read_crystals(tmp_path)
    assert result.filtered.crystals.num_atoms.tolist() == [1, 2, 3, 4, 5]
    assert result.names == (*(f"a.extxyz frame {n}" for n in range(3)), *(f"b.extxyz frame {n}" for n in range(2)))


def test_a_folder_with_two_kinds_of_crystal_files_is_refused(tmp_path: Path) -> None:
    write_crystals(some_crystals([1]), tmp_path / "a.extxyz")
    write_crystals(some_crystals([1]), tmp_path / "a.cif")
    with pytest.raises(ValueError, match=r"holds 1 \.cif and 1 \.extxyz files"):
        read_crystals(tmp_path)


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda lines: lines[:-1], {"frame 2"}),  # the last frame is cut
        (lambda lines: [*lines[:6], *lines[7:]], {"frame 1"}),  # an atom of the middle frame is missing
        (lambda lines: ["4", *lines[1:]], {"frame 0"}),  # the count is too large
        (lambda lines: ["garbage", *lines], {"frame 0"}),
        (lambda lines: ["9" * 5000, *lines], {"frame 0"}),
        (lambda lines: [*lines[:2], lines[2].replace(lines[2].split()[0], "Xx"), *lines[3:]], {"frame 0"}),
        (lambda lines: [lines[0], "no lattice here", *lines[2:]], {"frame 0"}),
        (lambda lines: [*lines, "", "  "], set()),
    ],
)
def test_a_damaged_frame_costs_that_frame(damage, lost: set[str], tmp_path: Path) -> None:
    write_crystals(some_crystals([2, 2, 2]), tmp_path / "x.extxyz")
    lines = (tmp_path / "x.extxyz").read_text().splitlines()
    (tmp_path / "x.extxyz").write_text("\n".join(damage(lines)) + "\n")
    result = read_crystals(tmp_path / "x.extxyz")
    assert set(result.reasons()) == lost
    assert len(result.filtered.crystals) >= 2


def test_rows_of_a_csv_hold_cif_or_json_and_a_bad_one_is_a_reason(tmp_path: Path) -> None:
    crystals = some_crystals([2, 300])
    texts = [cif(crystals), json.dumps(crystals.structure(1).as_dict()), "", "{broken", "Fe2O3", None]
    buffer = io.StringIO()
    buffer.write("\ufeffid,structure\n")
    for number, text in enumerate(texts):
        buffer.write(f"{number}\n" if text is None else f'{number},"{text.replace(chr(34), chr(34) * 2)}"\n')
    (tmp_path / "x.csv").write_text(buffer.getvalue())
    result = read_crystals(tmp_path / "x.csv")
    assert result.filtered.indices.tolist() == [0, 1]
    assert result.filtered.crystals.num_atoms.tolist() == [2, 300]
    reasons = result.reasons()
    assert reasons["row 2"] == "is empty"
    assert "not JSON" in reasons["row 3"]
    assert "row 4" in reasons
    assert reasons["row 5"] == "has 1 fields of 2"


def test_a_foreign_parquet_file_is_read_by_its_cif_column(tmp_path: Path) -> None:
    crystals = some_crystals([2, 3])
    pq.write_table(
        pa.table({"cif": [cif(crystals, 0), None, cif(crystals, 1)], "n": [1, 2, 3]}), tmp_path / "x.parquet"
    )
    result = read_crystals(tmp_path / "x.parquet")
    assert result.filtered.crystals.num_atoms.tolist() == [2, 3]
    assert result.reasons() == {"row 1": "is empty"}


def test_entries_of_json_that_are_no_structures_are_reasons(tmp_path: Path) -> None:
    good = Structure(Lattice.cubic(4), ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    disordered = Structure(Lattice.cubic(4), [{"Na": 0.5}], [[0, 0, 0]])
    cartesian = good.as_dict()
    for site in cartesian["sites"]:
        del site["abc"]
    strange = good.as_dict()
    strange["sites"][0]["species"][0]["element"] = "Qq"
    flat = good.as_dict()
    flat["lattice"]["matrix"] = np.zeros((3, 3)).tolist()
    entries = [good.as_dict(), disordered.as_dict(), {}, 3, None, cartesian, strange, flat]
    (tmp_path / "x.json").write_text(json.dumps(entries))
    result = read_crystals(tmp_path / "x.json")
    assert result.filtered.indices.tolist() == [0, 5]
    assert result.filtered.crystals[0] == result.filtered.crystals[1] == Crystals.from_structures([good])
    assert "partial occupancies" in result.reasons()["structure 1"]
    assert "Qq" in result.reasons()["structure 6"]
    assert "volume 0" in result.reasons()["structure 7"]


def test_json_cannot_name_a_class_to_be_called(tmp_path: Path) -> None:
    text = Structure(Lattice.cubic(4), ["Na"], [[0, 0, 0]]).as_dict()
    text["sites"][0]["properties"] = {"x": {"@module": "pathlib", "@class": "Path", "@version": None, "args": ["/"]}}
    text["properties"] = {"y": {"@module": "os", "@class": "system", "command": f"touch {tmp_path / 'called'}"}}
    (tmp_path / "x.json").write_text(json.dumps(text))
    assert len(read_crystals(tmp_path / "x.json").filtered.crystals) == 1
    assert not (tmp_path / "called").exists()


def test_atoms_on_one_site_are_not_merged_in_silence(tmp_path: Path) -> None:
    twice = Crystals([2], [8, 8], np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.30001]]), 4 * np.eye(3))
    water = Crystals([2], [8, 1], np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]), 4 * np.eye(3))
    crystals = Crystals.concatenate([twice, water, some_crystals([2])])
    write_crystals(crystals, tmp_path / "x.zip")
    result = read_crystals(tmp_path / "x.zip")
    assert list(result.reasons()) == ["0000.cif", "0001.cif"]
    assert result.reasons()["0001.cif"] == "atom sites 1 and 2 are one; remove one of them"


def test_a_cif_with_symmetry_gives_all_atoms_of_the_cell(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (tmp_path / "x.cif").write_text(salt.to(fmt="cif", symprec=0.01))
    result = read_crystals(tmp_path / "x.cif")
    assert result.names == ("x.cif",)
    assert result.filtered.crystals.num_atoms.tolist() == [8]
    assert same_atoms(result.filtered.crystals, Crystals.from_structures([salt]))


def test_a_cif_of_a_journal_with_a_block_about_the_paper_is_one_crystal(tmp_path: Path) -> None:
    text = "data_global\n_journal_year 1998\n\n" + cif(some_crystals([3]))
    (tmp_path / "x.cif").write_text(text)
    assert read_crystals(tmp_path / "x.cif").names == ("x.cif",)


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.path),))


def test_a_pickle_in_an_eval_gen_file_runs_no_code(tmp_path: Path) -> None:
    content = {**eval_gen(some_crystals([1])), "eval_setting": Touch(tmp_path / "called")}
    torch.save(content, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Touch(tmp_path / "called")))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ValueError, match="not a file of tensors"):
            read_crystals(tmp_path / name)
    assert not (tmp_path / "called").exists()


def test_an_eval_gen_file_without_its_tensors_says_which(tmp_path: Path) -> None:
    content = eval_gen(some_crystals([1]))
    del content["lengths"], content["angles"]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="holds no lengths, angles: not an eval_gen file"):
        read_crystals(tmp_path / "x.pt")


# Anything at all


@pytest.mark.parametrize("name", [*FORMATS, "x.csv.gz", "x.pt"])
def test_no_damage_gives_anything_but_crystals_reasons_or_one_clear_line(name: str, tmp_path: Path) -> None:
    crystals = some_crystals([2, 3, 1])
    path = tmp_path / name
    if name == "x.pt":
        torch.save(eval_gen(crystals), path)
    else:
        write_crystals(crystals, path)
    if name == "folder":
        path = path / "0001.cif"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for turn in range(40):
        first, second = sorted(rng.integers(len(whole), size=2))
        noise = rng.integers(0, 256, rng.integers(1, 20), dtype=np.uint8).tobytes()
        path.write_bytes(
            [whole[:first], whole[:first] + whole[second:], whole[:first] + noise + whole[first:]][turn % 3]
        )
        try:
            result = read_crystals(tmp_path / name)
            said = [str(path), *result.reasons().values()]
        except ValueError as error:
            said = [str(error)]
        assert said[0].startswith(str(tmp_path / name))
        assert not any("\n" in line for line in said)


def test_a_changed_bit_in_parquet_is_noticed(tmp_path: Path) -> None:
    write_crystals(some_crystals([300]), tmp_path / "x.parquet")
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    coordinates = pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(0).column(3)
    start = coordinates.dictionary_page_offset or coordinates.data_page_offset
    content[start + coordinates.total_compressed_size // 2] ^= 1
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet: "):
        read_crystals(tmp_path / "x.parquet")


def test_a_cif_without_end_is_not_parsed(tmp_path: Path) -> None:
    write_crystals(some_crystals([2, 2]), tmp_path / "folder")
    with open(tmp_path / "folder" / "0000.cif", "a") as file:
        file.writelines(f"  O  O{n}  1  0.1  0.2  0.{n}  1\n" for n in range(50_000))
    assert "more than 1048576 characters of CIF" in read_crystals(tmp_path / "folder").reasons()["0000.cif"]


# Nothing at all


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.cif", b"", r"x\.cif: holds no crystal: none of its 1 could be read"),
        ("x.cif", b"\x00\x01", "holds no crystal"),
        ("x.extxyz", b"", "holds no crystal"),
        ("x.xyz", b"2\nwater\nH 0 0 0\nO 0 0 1\n", "holds no crystal: none of its 1 .*Lattice"),
        ("x.json", b"[]", "holds no crystal"),
        ("x.json", b"{", "not JSON"),
        ("x.json", b"[" * 100_000, "not JSON"),
        ("x.csv", b"", "holds no crystal"),
        ("x.csv", b"a,b\n1,2\n", "no column named cif or structure among a, b"),
        ("x.csv", b"cif\n", "holds no crystal"),
        ("x.csv.gz", b"not gzip", "damaged gzip file"),
        ("x.json.gz", gzip.compress(b"[1, 2, 3]" * 1000, mtime=0)[:-9], "damaged gzip file"),
        ("x.parquet", b"PAR1", "not a Parquet file"),
        ("x.zip", b"PK", "not a zip file"),
        ("x.pt", b"", "not a file of tensors"),
        ("x.pt", b"\x80\x02garbage", "not a file of tensors"),
        ("x.vasp", b"", r"unknown kind of file; known are \.cif"),
        ("x.zip.gz", b"", "unknown kind of file"),
        ("x", b"", "unknown kind of file"),
    ],
)
def test_a_file_without_crystals_is_one_clear_line(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        read_crystals(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        read_crystals(tmp_path / "x.cif")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds no \.cif or \.extxyz or \.xyz file, but notes\.txt"):
        read_crystals(tmp_path)
