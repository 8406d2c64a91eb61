"""Reading and writing: round trips of every format, and what damaged, foreign and hostile files cost."""

import argparse
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from bench import crystal_readers
from bench.crystal_io import crystals_to_table, read_crystals, table_to_sifted, write_crystals
from bench.crystal_readers import lattices_from_parameters
from bench.crystals import Crystals, Sifted

FORMATS = ["x.cif", "x.zip", "folder", "x.extxyz", "x.json", "x.csv", "x.parquet"]
PACKED = ["x.cif.gz", "x.extxyz.gz", "x.json.gz", "x.csv.gz"]
needs_data = pytest.mark.skipif("BENCH_DATA_DIR" not in os.environ, reason="BENCH_DATA_DIR is not set")


def some_crystals(sizes: list[int], seed: int = 0) -> Crystals:
    """Crystals whose atoms lie apart: sites of a 7 x 7 x 7 grid, shaken a little, in skewed cells."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3), axis=-1).reshape(-1, 3) / 7
    coords = [rng.permutation(grid)[:size] + rng.uniform(0.01, 0.04, (size, 3)) for size in sizes]
    cells = 9 * np.eye(3) + rng.normal(size=(len(sizes), 3, 3))
    return Crystals(np.array(sizes), rng.integers(1, 95, sum(sizes)), np.concatenate(coords), cells)


def same_atoms(ours: Crystals, theirs: Crystals) -> bool:
    """Whether two batches have the same crystals up to the order of atoms and the 8 decimals of a CIF."""

    def atoms(crystals: Crystals, index: int) -> np.ndarray:
        numbers, coords, _ = crystals.arrays(index)
        rows = np.column_stack([numbers, np.floor(7 * coords), coords])  # element and place on the grid order them
        return rows[np.lexsort(rows.T[::-1])]

    return len(ours) == len(theirs) and all(
        np.allclose(atoms(ours, b), atoms(theirs, b), rtol=0, atol=1e-6)
        and np.allclose(ours.structure(b).lattice.parameters, theirs.structure(b).lattice.parameters, atol=1e-6)
        for b in range(len(ours))
    )


@st.composite
def crystal_batches(draw: st.DrawFn) -> Crystals:
    """Any crystals that are possible: coordinates at the ends of [0, 1), cells of all sizes, every element."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    coordinate = st.one_of(st.sampled_from([0.0, 1 - 2**-53, 1 / 3, 5e-324]), st.floats(0, 1, exclude_max=True))
    coords = draw(st.lists(st.tuples(*[coordinate] * 3), min_size=sum(sizes), max_size=sum(sizes)))
    numbers = draw(st.lists(st.integers(1, 118), min_size=sum(sizes), max_size=sum(sizes)))
    seeds = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seeds)
    scale = 10 ** rng.uniform(-0.5, 2, size=(len(sizes), 1, 1))
    cells = scale * (np.eye(3) + rng.uniform(-0.3, 0.3, (len(sizes), 3, 3)))
    return Crystals(np.array(sizes), np.array(numbers), np.array(coords), cells)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crystals=crystal_batches(), ending=st.sampled_from(["parquet", "json", "json.gz"]))
def test_parquet_and_json_hold_crystals_exactly(tmp_path: Path, crystals: Crystals, ending: str) -> None:
    write_crystals(crystals, tmp_path / f"x.{ending}")
    assert read_crystals(tmp_path / f"x.{ending}").sifted == Sifted.complete(crystals)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crystals=crystal_batches())
def test_extended_xyz_holds_every_frame_to_its_decimals(tmp_path: Path, crystals: Crystals) -> None:
    write_crystals(crystals, tmp_path / "x.extxyz")
    back = read_crystals(tmp_path / "x.extxyz").sifted.crystals
    np.testing.assert_array_equal(back.num_atoms, crystals.num_atoms)
    np.testing.assert_array_equal(back.atomic_numbers, crystals.atomic_numbers)
    np.testing.assert_allclose(back.lattices, crystals.lattices, rtol=1e-12, atol=1e-12)
    cell = np.repeat(crystals.lattices, crystals.num_atoms, axis=0)
    shift = back.frac_coords - crystals.frac_coords
    distance = np.einsum("ni,nij->nj", shift - np.round(shift), cell)
    assert np.abs(distance).max() < 2e-8


@pytest.mark.parametrize("name", FORMATS + PACKED)
def test_every_format_gives_the_same_crystals_back(name: str, tmp_path: Path) -> None:
    crystals = some_crystals([1, 5, 20, 300, 2])
    write_crystals(crystals, tmp_path / name)
    result = read_crystals(tmp_path / name)
    assert result.sifted.requested == len(result.names) == 5
    assert len(set(result.names)) == 5
    assert same_atoms(result.sifted.crystals, crystals)


@pytest.mark.parametrize("name", ["x.zip", "x.csv.gz", "x.parquet", "x.extxyz", "x.json.gz"])
def test_the_same_crystals_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    crystals = some_crystals([3, 4])
    contents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_crystals(crystals, tmp_path / folder / name)
        contents.append((tmp_path / folder / name).read_bytes())
        os.utime(tmp_path / folder / name, (0, 0))
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.zip", ["0000.cif", "0001.cif"]),
        ("folder", ["0000.cif", "0001.cif"]),
        ("x.cif", ["x.cif block 0", "x.cif block 1"]),
        ("x.extxyz", ["frame 0", "frame 1"]),
        ("x.json", ["structure 0", "structure 1"]),
        ("x.csv", ["row 0", "row 1"]),
        ("x.parquet", ["row 0", "row 1"]),
    ],
)
def test_every_crystal_has_the_name_of_its_place(name: str, expected: list[str], tmp_path: Path) -> None:
    write_crystals(some_crystals([2, 3]), tmp_path / name)
    assert list(read_crystals(tmp_path / name).names) == expected


@pytest.mark.parametrize("name", ["x.poscar", "x.gz", "x.zip.gz", "x.pt"])
def test_an_unknown_ending_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown ending; known are \.cif, \.zip"):
        write_crystals(some_crystals([1]), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_no_crystals_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no crystals to write"):
        write_crystals(Crystals.empty(), tmp_path / "x.zip")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="not an empty folder"):
        write_crystals(some_crystals([1]), tmp_path / "folder")


# Arrow tables


def test_a_table_keeps_reasons_and_counts_from_its_offset() -> None:
    sifted = Sifted(some_crystals([2, 4]), np.array([1, 3]), {0: "NaN", 2: "no volume"})
    table = crystals_to_table(sifted, offset=70)
    assert table["index"].to_pylist() == [70, 71, 72, 73]
    assert table["num_atoms"].to_pylist() == [0, 2, 0, 4]
    assert table["reason"].to_pylist() == ["NaN", None, "no volume", None]
    assert table["frac_coords"][0].as_py() == []
    assert table["lattice"][0].as_py() is None
    assert table_to_sifted(table) == sifted
    assert table_to_sifted(table.slice(2, 2)) == Sifted(sifted.crystals[1:], np.array([1]), {0: "no volume"})


@pytest.mark.parametrize(
    "sifted", [Sifted.complete(Crystals.empty()), Sifted(Crystals.empty(), np.array([]), {0: "x"})]
)
def test_tables_without_any_crystal_go_round(sifted: Sifted) -> None:
    assert table_to_sifted(crystals_to_table(sifted)) == sifted


def test_rows_of_a_table_that_do_not_fit_together_are_set_aside() -> None:
    crystals = some_crystals([2, 1, 3, 2, 1, 1])
    rows = crystals_to_table(crystals).to_pylist()
    rows[0]["num_atoms"] = 3
    rows[1]["lattice"] = None
    rows[2]["frac_coords"][4] = None
    rows[3]["atomic_numbers"] = [1, 200]
    rows[4]["num_atoms"] = -1
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    sifted = table_to_sifted(table.set_column(4, "lattice", table["lattice"].cast(pa.list_(pa.float64(), 9))))
    assert sifted.indices.tolist() == [5]
    assert sifted.crystals == crystals[5]
    for place, text in enumerate(["2 values of atomic_numbers", "no lattice", "not finite", "number 200", "negative"]):
        assert text in sifted.reasons[place]


def test_a_table_of_something_else_is_refused_with_what_is_missing() -> None:
    with pytest.raises(ValueError, match="no column num_atoms"):
        table_to_sifted(pa.table({"x": [1]}))


# Damage: one bad crystal costs one crystal


def cif(crystals: Crystals, index: int = 0) -> str:
    return str(crystals.structure(index).to(fmt="cif"))


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
    assert same_atoms(result.sifted.crystals, good)


def test_a_damaged_member_of_a_zip_costs_one_crystal(tmp_path: Path) -> None:
    write_crystals(some_crystals([4, 4, 4]), tmp_path / "x.zip")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    second = content.index(b"0001.cif")
    content[second + 40 : second + 60] = bytes(20)
    (tmp_path / "x.zip").write_bytes(content)
    result = read_crystals(tmp_path / "x.zip")
    assert list(result.reasons()) == ["0001.cif"]
    assert len(result.sifted.crystals) == 2


def test_a_zip_may_not_climb_out_nor_swell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = some_crystals([2])
    monkeypatch.setattr(crystal_readers, "MAX_MEMBER_BYTES", 2**20)
    monkeypatch.setattr(crystal_readers, "MAX_TOTAL_BYTES", 2**22)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside.cif", cif(good))
        archive.writestr("/etc/absolute.cif", cif(good))
        archive.writestr("a\\..\\..\\windows.cif", cif(good))
        archive.writestr("bomb.cif", bytes(2**21))
        archive.writestr("good.cif", cif(good))
    result = read_crystals(tmp_path / "x.zip")
    assert [name for name in result.names if name not in result.reasons()] == ["good.cif"]
    assert sum("climbs out" in reason for reason in result.reasons().values()) == 3
    assert "2 MiB unpacked; at most 1" in result.reasons()["bomb.cif"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["x.zip"]
    monkeypatch.setattr(crystal_readers, "MAX_TOTAL_BYTES", 2**21)
    with pytest.raises(ValueError, match=r"x\.zip: 0\.0 GiB unpacked; at most"):
        read_crystals(tmp_path / "x.zip")


def test_two_files_of_one_name_in_a_zip_are_two_crystals(tmp_path: Path) -> None:
    good = some_crystals([2, 3])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.cif", cif(good, 0))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.cif", cif(good, 1))
    assert read_crystals(tmp_path / "x.zip").sifted.crystals.num_atoms.tolist() == [2, 3]


def test_folders_are_read_with_their_subfolders_in_natural_order(tmp_path: Path) -> None:
    good = some_crystals([1, 2, 3, 4])
    for index, name in enumerate(["a/2.cif", "a/10.cif", "b.cif", "a/1.CIF"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(cif(good, index))
    (tmp_path / ".hidden.cif").write_text("nothing")
    result = read_crystals(tmp_path)
    assert result.names == ("a/1.CIF", "a/2.cif", "a/10.cif", "b.cif")
    assert result.sifted.crystals.num_atoms.tolist() == [4, 1, 2, 3]


def test_a_folder_of_extended_xyz_files_gives_all_frames_of_each(tmp_path: Path) -> None:
    write_crystals(some_crystals([1, 2, 3]), tmp_path / "a.extxyz")
    write_crystals(some_crystals([4, 5]), tmp_path / "b.extxyz")
    result = read_crystals(tmp_path)
    assert result.sifted.crystals.num_atoms.tolist() == [1, 2, 3, 4, 5]
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
    assert len(result.sifted.crystals) >= 2


def test_rows_of_a_csv_hold_cif_or_json_and_a_bad_one_is_a_reason(tmp_path: Path) -> None:
    crystals = some_crystals([2, 300])
    texts = [cif(crystals), json.dumps(crystals.structure(1).as_dict()), "", "{broken", "Fe2O3", None]
    buffer = io.StringIO()
    buffer.write("\ufeffid,structure\n")
    for number, text in enumerate(texts):
        buffer.write(f"{number}\n" if text is None else f'{number},"{text.replace(chr(34), chr(34) * 2)}"\n')
    (tmp_path / "x.csv").write_text(buffer.getvalue())
    result = read_crystals(tmp_path / "x.csv")
    assert result.sifted.indices.tolist() == [0, 1]
    assert result.sifted.crystals.num_atoms.tolist() == [2, 300]
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
    assert result.sifted.crystals.num_atoms.tolist() == [2, 3]
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
    assert result.sifted.indices.tolist() == [0, 5]
    assert result.sifted.crystals[0] == result.sifted.crystals[1] == Crystals.from_structures([good])
    assert "partial occupancies" in result.reasons()["structure 1"]
    assert "Qq" in result.reasons()["structure 6"]
    assert "volume 0" in result.reasons()["structure 7"]


def test_json_cannot_name_a_class_to_be_called(tmp_path: Path) -> None:
    text = Structure(Lattice.cubic(4), ["Na"], [[0, 0, 0]]).as_dict()
    text["sites"][0]["properties"] = {"x": {"@module": "pathlib", "@class": "Path", "@version": None, "args": ["/"]}}
    text["properties"] = {"y": {"@module": "os", "@class": "system", "command": f"touch {tmp_path / 'called'}"}}
    (tmp_path / "x.json").write_text(json.dumps(text))
    assert len(read_crystals(tmp_path / "x.json").sifted.crystals) == 1
    assert not (tmp_path / "called").exists()


def test_atoms_on_one_site_are_not_merged_in_silence(tmp_path: Path) -> None:
    twice = Crystals([2], [8, 8], np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.30001]]), 4 * np.eye(3))
    water = Crystals([2], [8, 1], np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]), 4 * np.eye(3))
    crystals = Crystals.concatenate([twice, water, some_crystals([2])])
    write_crystals(crystals, tmp_path / "x.zip")
    result = read_crystals(tmp_path / "x.zip")
    assert list(result.reasons()) == ["0000.cif", "0001.cif"]
    assert "2 atom sites are listed, 1 differ" in result.reasons()["0001.cif"]


def test_a_cif_with_symmetry_gives_all_atoms_of_the_cell(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (tmp_path / "x.cif").write_text(salt.to(fmt="cif", symprec=0.01))
    result = read_crystals(tmp_path / "x.cif")
    assert result.names == ("x.cif",)
    assert result.sifted.crystals.num_atoms.tolist() == [8]
    assert same_atoms(result.sifted.crystals, Crystals.from_structures([salt]))


def test_a_cif_of_a_journal_with_a_block_about_the_paper_is_one_crystal(tmp_path: Path) -> None:
    text = "data_global\n_journal_year 1998\n\n" + cif(some_crystals([3]))
    (tmp_path / "x.cif").write_text(text)
    assert read_crystals(tmp_path / "x.cif").names == ("x.cif",)


# eval_gen.pt


def eval_gen(crystals: Crystals) -> dict:
    parameters = np.array([s.lattice.parameters for s in crystals])
    return {
        "frac_coords": torch.tensor(crystals.frac_coords, dtype=torch.float32),
        "num_atoms": torch.tensor(crystals.num_atoms),
        "atom_types": torch.tensor(crystals.atomic_numbers),
        "lengths": torch.tensor(parameters[:, :3], dtype=torch.float32),
        "angles": torch.tensor(parameters[:, 3:], dtype=torch.float32),
    }


def test_cells_from_lengths_and_angles_are_those_of_pymatgen() -> None:
    parameters = np.array([s.lattice.parameters for s in some_crystals([1] * 50)])
    expected = [Lattice.from_parameters(*row).matrix for row in parameters]
    np.testing.assert_allclose(lattices_from_parameters(parameters[:, :3], parameters[:, 3:]), expected, atol=1e-9)


@pytest.mark.parametrize("family", ["diffcsp", "cdvae", "scores"])
def test_eval_gen_files_of_both_families_are_read(family: str, tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    content = eval_gen(crystals)
    if family == "cdvae":  # evaluations on a leading axis, of which the first counts; the command line beside them
        content = {key: torch.stack([value, torch.zeros_like(value)]) for key, value in content.items()}
        content["eval_setting"] = argparse.Namespace(model_path=Path("runs/x"), n_step_each=100)
        content["time"] = 3.5
    if family == "scores":
        content["atom_types"] = torch.nn.functional.one_hot(content["atom_types"] - 1, 100).float()
    torch.save(content, tmp_path / "eval_gen_x.pt")
    result = read_crystals(tmp_path / "eval_gen_x.pt")
    assert result.names == ("crystal 0", "crystal 1", "crystal 2")
    back = result.sifted.crystals
    np.testing.assert_array_equal(back.atomic_numbers, crystals.atomic_numbers)
    np.testing.assert_allclose(back.frac_coords, crystals.frac_coords, atol=1e-6)
    np.testing.assert_allclose(back.volumes, crystals.volumes, rtol=1e-5)


def test_impossible_crystals_of_an_eval_gen_file_are_reasons(tmp_path: Path) -> None:
    content = eval_gen(some_crystals([1, 1, 1, 1, 1]))
    content["lengths"][0, 1] = -3
    content["angles"][1] = float("nan")
    content["angles"][2] = torch.tensor([170.0, 10.0, 20.0])
    content["atom_types"][3] = 0
    torch.save(content, tmp_path / "eval_gen.pt")
    result = read_crystals(tmp_path / "eval_gen.pt")
    assert result.sifted.indices.tolist() == [4]
    assert list(result.sifted.reasons) == [0, 1, 2, 3]


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
    assert "characters of CIF; at most" in read_crystals(tmp_path / "folder").reasons()["0000.cif"]


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
        ("x.json.gz", gzip.compress(b"[1, 2, 3]" * 1000)[:-9], "damaged gzip file"),
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


def test_two_processes_read_what_one_does(tmp_path: Path) -> None:
    crystals = some_crystals([1, 2] * 300)
    write_crystals(crystals, tmp_path / "x.zip")
    alone, both = read_crystals(tmp_path / "x.zip"), read_crystals(tmp_path / "x.zip", workers=2)
    assert alone.sifted == both.sifted
    assert alone.names == both.names


@needs_data
def test_published_samples_of_other_models_are_read() -> None:
    folder = Path(os.environ["BENCH_DATA_DIR"]) / "samples"
    result = read_crystals(folder / "wyformer_mpts52_chgnet_995.csv.gz")
    assert result.sifted.requested == len(result.sifted.crystals) == 995


@needs_data
@pytest.mark.slow
def test_published_cifs_of_another_model_are_read_as_pymatgen_reads_them() -> None:
    path = Path(os.environ["BENCH_DATA_DIR"]) / "samples" / "mattergen_cifs.zip"
    result = read_crystals(path)
    assert result.sifted.requested == 772
    assert all("partial occupancies" in reason for reason in result.reasons().values())
    with zipfile.ZipFile(path) as archive:
        for place in range(0, len(result.sifted.crystals), 50):
            text = archive.read(result.names[int(result.sifted.indices[place])]).decode()
            expected = Crystals.from_structures([Structure.from_str(text, fmt="cif")])
            assert result.sifted.crystals[place] == expected
