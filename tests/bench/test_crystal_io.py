"""Reading and writing: round trips of every format, names of places, files of other programs."""

import argparse
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from bench.crystal_io import crystals_to_table, read_crystals, table_to_filtered, write_crystals
from bench.crystal_io.cells import lattices_from_parameters
from bench.crystals import Crystals, FilteredCrystals
from tests.bench.crystal_examples import FORMATS, eval_gen, same_atoms, some_crystals

PACKED = ["x.cif.gz", "x.extxyz.gz", "x.json.gz", "x.csv.gz"]


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
    assert read_crystals(tmp_path / f"x.{ending}").filtered == FilteredCrystals.complete(crystals)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crystals=crystal_batches())
def test_extended_xyz_holds_every_frame_to_its_decimals(tmp_path: Path, crystals: Crystals) -> None:
    write_crystals(crystals, tmp_path / "x.extxyz")
    back = read_crystals(tmp_path / "x.extxyz").filtered.crystals
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
    assert result.filtered.requested == len(result.names) == 5
    assert len(set(result.names)) == 5
    assert same_atoms(result.filtered.crystals, crystals)


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
    filtered = FilteredCrystals(some_crystals([2, 4]), np.array([1, 3]), {0: "NaN", 2: "no volume"})
    table = crystals_to_table(filtered, offset=70)
    assert table["index"].to_pylist() == [70, 71, 72, 73]
    assert table["num_atoms"].to_pylist() == [0, 2, 0, 4]
    assert table["reason"].to_pylist() == ["NaN", None, "no volume", None]
    assert table["frac_coords"][0].as_py() == []
    assert table["lattice"][0].as_py() is None
    assert table_to_filtered(table) == filtered
    assert table_to_filtered(table.slice(2, 2)) == FilteredCrystals(
        filtered.crystals[1:], np.array([1]), {0: "no volume"}
    )


@pytest.mark.parametrize(
    "filtered",
    [FilteredCrystals.complete(Crystals.empty()), FilteredCrystals(Crystals.empty(), np.array([]), {0: "x"})],
)
def test_tables_without_any_crystal_go_round(filtered: FilteredCrystals) -> None:
    assert table_to_filtered(crystals_to_table(filtered)) == filtered


def test_rows_of_a_table_that_do_not_fit_together_are_set_aside() -> None:
    crystals = some_crystals([2, 1, 3, 2, 1, 1])
    rows = crystals_to_table(crystals).to_pylist()
    rows[0]["num_atoms"] = 3
    rows[1]["lattice"] = None
    rows[2]["frac_coords"][4] = None
    rows[3]["atomic_numbers"] = [1, 200]
    rows[4]["num_atoms"] = -1
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    filtered = table_to_filtered(table.set_column(4, "lattice", table["lattice"].cast(pa.list_(pa.float64(), 9))))
    assert filtered.indices.tolist() == [5]
    assert filtered.crystals == crystals[5]
    for place, text in enumerate(["2 values of atomic_numbers", "no lattice", "not finite", "number 200", "negative"]):
        assert text in filtered.reasons[place]


def test_a_table_of_something_else_is_refused_with_what_is_missing() -> None:
    with pytest.raises(ValueError, match="no column num_atoms"):
        table_to_filtered(pa.table({"x": [1]}))


# eval_gen.pt


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
    back = result.filtered.crystals
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
    assert result.filtered.indices.tolist() == [4]
    assert list(result.filtered.reasons) == [0, 1, 2, 3]


def test_two_processes_read_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.crystal_io.cif.parsing.CHUNK", 128)
    crystals = some_crystals([1, 2] * 300)
    write_crystals(crystals, tmp_path / "x.zip")
    alone, both = read_crystals(tmp_path / "x.zip"), read_crystals(tmp_path / "x.zip", workers=2)
    assert alone.filtered == both.filtered
    assert alone.names == both.names


@pytest.mark.needs_data
def test_published_samples_of_other_models_are_read() -> None:
    folder = Path(os.environ["BENCH_DATA_DIR"]) / "samples"
    result = read_crystals(folder / "wyformer_mpts52_chgnet_995.csv.gz")
    assert result.filtered.requested == len(result.filtered.crystals) == 995


@pytest.mark.needs_data
@pytest.mark.slow
def test_published_cifs_of_another_model_are_read_as_pymatgen_reads_them() -> None:
    path = Path(os.environ["BENCH_DATA_DIR"]) / "samples" / "mattergen_cifs.zip"
    result = read_crystals(path)
    assert result.filtered.requested == 772
    assert all("partial occupancies" in reason for reason in result.reasons().values())
    with zipfile.ZipFile(path) as archive:
        for place in range(0, len(result.filtered.crystals), 50):
            text = archive.read(result.names[int(result.filtered.indices[place])]).decode()
            expected = Crystals.from_structures([Structure.from_str(text, fmt="cif")])
            assert result.filtered.crystals[place] == expected
