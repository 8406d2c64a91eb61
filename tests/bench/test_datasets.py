"""Data sets: found, parsed in the published convention, cached."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from bench.crystal_io.cif import parse_cifs
from bench.crystals import Crystals
from bench.datasets import (
    canonical_name,
    load_properties,
    load_split,
    parsed,
    prepare,
    split_hash,
)
from bench.datasets.files import DATASETS, git_blob_sha1
from bench.datasets.parsed import published_crystal
from tests.bench.small_perov5 import STRUCTURES, TEXTS, csv_bytes, structure

PEROV5 = DATASETS["perov5"]


def published(cif: str) -> Structure:
    """The reading of a CIF in the code of CDVAE and DiffCSP, in pymatgen's words."""
    crystal = Structure.from_str(cif, fmt="cif").get_reduced_structure()
    return Structure(
        lattice=Lattice.from_parameters(*crystal.lattice.parameters),
        species=crystal.species,
        coords=crystal.frac_coords,
        coords_are_cartesian=False,
    )


@pytest.mark.parametrize("name", ["perov5", "perov_5", "Perov-5", "PEROV_5"])
def test_every_spelling_of_a_data_set_is_understood(name: str) -> None:
    assert canonical_name(name) == "perov5"


@pytest.mark.parametrize("name", ["", "mp", "perov5x", "../mp20"])
def test_an_unknown_data_set_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="known are perov5, mp20"):
        canonical_name(name)


def test_an_unknown_split_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'; known are train, val, test"):
        load_split("perov5", "dev")  # type: ignore[arg-type]


def test_gits_hash_of_a_blob() -> None:
    assert git_blob_sha1(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_split_is_its_file_in_order_in_the_published_convention(small_perov5: Path) -> None:
    crystals = load_split("perov_5", "train")
    expected = [published(structure(n).to(fmt="cif")) for n in range(5)]
    assert crystals == Crystals.from_structures(expected)
    np.testing.assert_allclose(crystals.volumes, [structure(n).volume for n in range(5)], rtol=1e-6)
    assert (np.linalg.norm(crystals.lattices, axis=2) < 6).all()  # the skewed cells of the file are up to 20 A long


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_the_same_text_is_parsed_once(small_perov5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_split("perov5", "train")
    monkeypatch.setattr(parsed, "parse_cifs", lambda *_: pytest.fail("parsed again"))
    assert load_split("perov5", "train") == first
    (small_perov5 / "train.csv").rename(small_perov5.parent / "train.csv")  # another place and packing
    (small_perov5 / "train.csv.gz").write_bytes(gzip.compress((small_perov5.parent / "train.csv").read_bytes()))
    assert load_split("perov5", "train") == first


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_changed_text_is_parsed_anew(small_perov5: Path) -> None:
    load_split("perov5", "train")
    (small_perov5 / "train.csv").write_bytes(csv_bytes([structure(7)]))
    assert load_split("perov5", "train") == Crystals.from_structures([published(structure(7).to(fmt="cif"))])


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_another_parser_version_parses_anew(
    small_perov5: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_split("perov5", "train")
    monkeypatch.setattr(parsed, "PARSER_VERSION", parsed.PARSER_VERSION + 1)
    load_split("perov5", "train")
    assert len(list((cache_folder / "parsed").iterdir())) == 2


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_damaged_cache_file_is_replaced_with_a_warning(small_perov5: Path, cache_folder: Path) -> None:
    first = load_split("perov5", "train")
    (kept,) = (cache_folder / "parsed").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="damaged cache file"):
        assert load_split("perov5", "train") == first
    assert kept.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_cache_that_cannot_be_written_costs_only_a_warning(
    small_perov5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert len(load_split("perov5", "train")) == 5


def test_a_file_that_is_not_the_published_one_is_used_with_one_warning_and_its_own_hash(small_perov5: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_split("perov5", "train")
        load_split("perov5", "train")
        load_properties("perov5", "train", ["heat_all"])
    (warning,) = caught
    assert "train.csv is not the published file" in str(warning.message)
    assert split_hash("perov5", "train") == git_blob_sha1(TEXTS["train"])


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_row_without_a_crystal_is_named_with_its_file(small_perov5: Path) -> None:
    text = csv_bytes([structure(0), structure(1)]).decode().replace("_cell_length_a ", "_cell_length_q ")
    (small_perov5 / "val.csv").write_text(csv_bytes([structure(2)]).decode() + text[text.index("\n") + 1 :])
    with pytest.raises(ValueError, match=r"Perov-5 val: row 1 of .*val\.csv holds no crystal"):
        load_split("perov5", "val")


@pytest.mark.filterwarnings("ignore:.*is not the published file")
@pytest.mark.parametrize("content", [b"", b"\n", b"a,b\n1,2\n", b"cif\n\x00\xff", b"id,cif\n1,x,y\n"])
def test_a_file_that_is_no_table_of_crystals_is_one_clear_line(small_perov5: Path, content: bytes) -> None:
    (small_perov5 / "test.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"test\.csv"):
        load_split("perov5", "test")


@pytest.mark.filterwarnings("ignore:.*is not the published file")
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_names_of_columns_may_stand_in_quotes(start: bytes, small_perov5: Path) -> None:
    as_published = load_split("perov5", "val")
    header, _, rows = (small_perov5 / "val.csv").read_bytes().partition(b"\n")
    quoted = b",".join(b'"' + name + b'"' for name in header.split(b","))
    (small_perov5 / "val.csv").write_bytes(start + quoted + b"\r\n" + rows)
    assert load_split("perov5", "val") == as_published


def test_a_damaged_gz_is_named(small_perov5: Path) -> None:
    (small_perov5 / "train.csv").unlink()
    (small_perov5 / "train.csv.gz").write_bytes(gzip.compress(TEXTS["train"])[:-20])
    with pytest.raises(ValueError, match=r"train\.csv\.gz: damaged gzip file"):
        load_split("perov5", "train")


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_properties_are_row_by_row_those_of_the_crystals(small_perov5: Path) -> None:
    table = load_properties("perov5", "val", ["heat_all", "material_id"])
    assert table.column_names == ["heat_all", "material_id"]
    assert table["heat_all"].to_pylist() == [n / 8 for n in range(6)]
    assert table["material_id"].to_pylist() == [f"{100 + n}" for n in range(6)]


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_an_unknown_property_lists_what_the_file_has(small_perov5: Path) -> None:
    with pytest.raises(ValueError, match=r"no column band_gap; it has .*heat_all"):
        load_properties("perov5", "val", ["band_gap"])


def test_a_data_folder_that_does_not_exist_is_named(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA_DIR", "/does/not/exist")
    with pytest.raises(ValueError, match="BENCH_DATA_DIR=/does/not/exist: no such folder"):
        load_split("perov5", "train")


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_prepare_reports_rows_hashes_and_progress_of_every_split(small_perov5: Path) -> None:
    seen = []
    summary = prepare("perov5", on_progress=lambda *step: seen.append(step))
    assert [(s.split, s.rows, s.published) for s in summary] == [(k, len(v), False) for k, v in STRUCTURES.items()]
    assert [s.blob for s in summary] == [git_blob_sha1(TEXTS[s.split]) for s in summary]
    assert seen == [("train", 5, 5), ("val", 6, 6), ("test", 7, 7)]


def test_two_processes_parse_what_one_does_and_put_reasons_in_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.crystal_io.cif.parsing.CHUNK", 256)
    texts = [structure(n).to(fmt="cif") for n in range(20)] * 40
    texts[300] = "not a crystal"
    steps: list[tuple[int, int]] = []
    parallel = parse_cifs(texts, published_crystal, workers=2, on_progress=lambda *step: steps.append(step)).filtered
    alone = parse_cifs(texts[:20], published_crystal, workers=1).filtered
    assert list(parallel.reasons) == [300]
    assert steps[-1] == (800, 800)
    assert len(steps) == 4
    assert parallel.crystals[:20] == alone.crystals
    assert parallel.crystals[779:] == alone.crystals


@pytest.mark.needs_data
@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_real_crystals_come_in_the_published_convention() -> None:
    texts = load_properties("perov5", "test", ["cif"])["cif"].to_pylist()
    sample = np.random.default_rng(0).choice(len(texts), 40, replace=False)
    parsed = parse_cifs([texts[n] for n in sample], published_crystal, workers=1).filtered
    assert parsed.crystals == Crystals.from_structures([published(texts[n]) for n in sample])
    assert len(texts) == PEROV5.rows["test"]
