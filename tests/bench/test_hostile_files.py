"""Files made to do harm: each is refused or counted in one clear line, in bounded memory, and nothing in it is run."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
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
from tests.bench.crystal_examples import cif, eval_gen, same_atoms, some_crystals

ROOT = Path(__file__).parents[2]
MIB = 2**20
SITE = f"Si Si 0.1 0.2 0.3 # {'and a long comment, ' * 10}\n"
HEAD = (
    "data_x\n"
    + "".join(f"_cell_length_{axis} 9\n" for axis in "abc")
    + "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
    + "loop_\n"
    + "".join(f"_atom_site_{name}\n" for name in ("type_symbol", "label", "fract_x", "fract_y", "fract_z"))
)


def gzip_of(repeated: bytes, times: int) -> bytes:
    """A gzip of many times the same: its members stand one behind the other."""
    return gzip.compress(repeated) * times


def zip_of(path: Path, size: int, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("0.cif", "w") as member:
        for _ in range(size // MIB):
            member.write(bytes(MIB))


def lying_zip(path: Path) -> None:
    """A list of files that says 1000 bytes of what is unpacked to many."""
    zip_of(path, 400 * MIB)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(content)


def same_cell_parquet(path: Path) -> None:
    """A cell of 32 MiB that is stored once and stands in a hundred thousand rows: 3 TiB as texts."""
    cells = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * (32 * MIB)]))
    pq.write_table(pa.table({"cif": cells}), path, compression="zstd", store_schema=False)


def packed_tensors(path: Path) -> None:
    """Half a gigabyte of zeros as torch.save never packs them."""
    buffer = io.BytesIO()
    torch.save({"frac_coords": torch.zeros(2**20, 3)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for info in plain.infolist():
            content = plain.read(info)
            with packed.open(info.filename, "w") as member:
                for _ in range(40 if len(content) > MIB else 1):
                    member.write(content)


def wide_tensors(path: Path) -> None:
    """Tensors of 3e12 values over a storage of one: strides of 0."""
    one = torch.zeros(1)
    wide = {"frac_coords": one.expand(10**12, 3), "num_atoms": one, "atom_types": one, "lengths": one, "angles": one}
    torch.save(wide, path)


BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {  # name -> how it is made, and what is said of it
    "large.cif": (
        lambda p: p.write_text(HEAD + SITE * (200 * MIB // len(SITE))),
        "more than 1048576 characters of CIF",
    ),
    "line.cif.gz": (lambda p: p.write_bytes(gzip_of(b"x" * MIB, 400)), "more than 1048576 characters of CIF"),
    "zeros.csv.gz": (lambda p: p.write_bytes(gzip_of(bytes(MIB), 400)), "a row of more than 16777216 characters"),
    "commas.csv": (lambda p: p.write_text("cif" + "," * (64 * MIB)), "a row of more than 16777216 characters"),
    "quote.csv": (lambda p: p.write_text('cif\n"' + "a\n" * (32 * MIB)), "field larger than field limit"),
    "zeros.extxyz.gz": (lambda p: p.write_bytes(gzip_of(bytes(MIB), 400)), "instead of a number of atoms"),
    "string.json.gz": (
        lambda p: p.write_bytes(gzip.compress(b'["') + gzip_of(b"a" * MIB, 400)),
        "structure 0: more than 8388608 characters",
    ),
    "one.json.gz": (
        lambda p: p.write_bytes(gzip.compress(b'{"a":"') + gzip_of(b"a" * MIB, 400)),
        "8388608 characters",
    ),
    "brackets.json": (lambda p: p.write_text("[[" + "[]," * (16 * MIB)), "more than 8388608 characters, or not JSON"),
    "bomb.zip": (lambda p: zip_of(p, 400 * MIB), "more than 1048576 characters of CIF"),
    "lie.zip": (lying_zip, "Bad CRC-32"),
    "bzip2.zip": (lambda p: zip_of(p, 32 * MIB, zipfile.ZIP_BZIP2), "packed by method 12; only stored and deflated"),
    "same.parquet": (same_cell_parquet, "bytes; at most 8388608 are read"),
    "packed.pt": (packed_tensors, "in it is compressed"),
    "wide.pt": (wide_tensors, "frac_coords has 3000000000000 values"),
}
READER = """
import json, resource, sys
import pyarrow, pymatgen.io.cif, torch
from bench.crystal_io import read_crystals, write_crystals
from bench.crystals import Crystals
write_crystals(Crystals([1], [14], [[0, 0, 0]], [[3, 0, 0], [0, 3, 0], [0, 0, 3]]), sys.argv[1])
read_crystals(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
for path in sys.argv[2:]:
    try:
        said = f"no error: {len(read_crystals(path).filtered.crystals)} crystals"
    except ValueError as error:
        said = str(error)
    print(json.dumps([path, said, peak() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """Name of a bomb -> what one process said of it, and how far its memory had risen by then in bytes."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in BOMBS.items():
        make(folder / name)
    command = [sys.executable, "-c", READER, str(folder / "warm.cif"), *(str(folder / name) for name in BOMBS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for name in BOMBS:
        (folder / name).unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(path).name: (said, risen) for path, said, risen in lines}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_clear_line(name: str, verdicts: dict[str, tuple[str, int]]) -> None:
    said, _ = verdicts[name]
    assert BOMBS[name][1] in said
    assert name in said.partition(": ")[0]
    assert "\n" not in said


@pytest.mark.slow
def test_no_bomb_takes_more_memory_than_the_largest_crystal_that_is_read(verdicts: dict[str, tuple[str, int]]) -> None:
    # The most that is in memory at a time: 8 MiB of JSON, twice as it grows, and Python's lists of it, up to 64 bytes
    # for every three characters, 180 MiB; or 16 MiB of commas as fields of 8 bytes each, 128 MiB; or a cell of 32 MiB
    # in the dictionary of a Parquet file, packed, unpacked and copied. Most bombs hold more than this, unpacked.
    assert {name: risen // MIB for name, (_, risen) in verdicts.items() if risen > 256 * MIB} == {}


# Limits, and what is just below them


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
        ('Lattice="3 0 0 0 3 0 0 0 0" Properties=species:S:1:pos:R:3', "three independent vectors"),
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


# Names and places


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
