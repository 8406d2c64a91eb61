"""Data sets: found, downloaded, verified, parsed in the published convention, cached; and their reference cards."""

import dataclasses
import gzip
import hashlib
import http.server
import json
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from bench.crystal_io.cif import parse_cifs
from bench.crystals import Crystals
from bench.datasets import (
    DataUnavailable,
    canonical_name,
    load_properties,
    load_split,
    parsed,
    prepare,
    reference_card,
    split_hash,
    write_reference_card,
)
from bench.datasets.card import ReferenceCard
from bench.datasets.files import DATASETS, TIMEOUT_S, DatasetSpec, download_path, find_file, git_blob_sha1, require_file
from bench.datasets.parsed import published_crystal
from tests.at_hand import needs_data

PEROV5 = DATASETS["perov5"]
ELEMENTS = ["Sr", "Ti", "O", "Ba", "Zr", "La", "Cs"]


def structure(number: int) -> Structure:
    """A crystal in a cell that is far from reduced."""
    rng = np.random.default_rng(number)
    cell = np.array([[1, 0, 0], [3, 1, 0], [-2, 1, 1]]) @ (np.diag([4.1, 4.3, 4.7]) + 0.1 * rng.random((3, 3)))
    count = 1 + number % 4
    return Structure(Lattice(cell), rng.choice(ELEMENTS, count), rng.random((count, 3)))


def csv_bytes(structures: list[Structure]) -> bytes:
    """A file in the layout of the published ones."""
    rows = [
        f'{number},{100 + number},"{entry.to(fmt="cif")}",{entry.composition.reduced_formula},{number / 8}\n'
        for number, entry in enumerate(structures)
    ]
    return ("Unnamed: 0,material_id,cif,formula,heat_all\n" + "".join(rows)).encode()


STRUCTURES = {
    split: [structure(100 * place + n) for n in range(5 + place)]
    for place, split in enumerate(("train", "val", "test"))
}
TEXTS = {split: csv_bytes(structures) for split, structures in STRUCTURES.items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.datasets.files._warned", set())
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """BENCH_DATA_DIR with a small perov_5."""
    folder = tmp_path / "data" / "perov_5"
    folder.mkdir(parents=True)
    for split, content in TEXTS.items():
        (folder / f"{split}.csv").write_bytes(content)
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "data"))
    return folder


@pytest.fixture
def no_data(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[DatasetSpec]:
    """A data set whose first location has nothing and whose second serves the files; `hits` counts requests."""
    folder = tmp_path / "served" / "perov_5"
    folder.mkdir(parents=True)
    for split, content in TEXTS.items():
        (folder / f"{split}.csv").write_bytes(content)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    blobs = {split: ("0" * 40, git_blob_sha1(content)) for split, content in TEXTS.items()}
    yield dataclasses.replace(PEROV5, urls=(f"{base}/nothing", base), blobs=blobs)
    server.shutdown()
    server.server_close()


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
def test_a_split_is_its_file_in_order_in_the_published_convention(data: Path) -> None:
    crystals = load_split("perov_5", "train")
    expected = [published(structure(n).to(fmt="cif")) for n in range(5)]
    assert crystals == Crystals.from_structures(expected)
    np.testing.assert_allclose(crystals.volumes, [structure(n).volume for n in range(5)], rtol=1e-6)
    assert (np.linalg.norm(crystals.lattices, axis=2) < 6).all()  # the skewed cells of the file are up to 20 A long


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_the_same_text_is_parsed_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_split("perov5", "train")
    monkeypatch.setattr(parsed, "parse_cifs", lambda *_: pytest.fail("parsed again"))
    assert load_split("perov5", "train") == first
    (data / "train.csv").rename(data.parent / "train.csv")  # the same content in another place and packing
    (data / "train.csv.gz").write_bytes(gzip.compress((data.parent / "train.csv").read_bytes()))
    assert load_split("perov5", "train") == first


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_changed_text_is_parsed_anew(data: Path) -> None:
    load_split("perov5", "train")
    (data / "train.csv").write_bytes(csv_bytes([structure(7)]))
    assert load_split("perov5", "train") == Crystals.from_structures([published(structure(7).to(fmt="cif"))])


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_another_parser_version_parses_anew(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_split("perov5", "train")
    monkeypatch.setattr(parsed, "PARSER_VERSION", parsed.PARSER_VERSION + 1)
    load_split("perov5", "train")
    assert len(list((cache / "parsed").iterdir())) == 2


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_damaged_cache_file_is_replaced_with_a_warning(data: Path, cache: Path) -> None:
    first = load_split("perov5", "train")
    (kept,) = (cache / "parsed").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="damaged cache file"):
        assert load_split("perov5", "train") == first
    assert kept.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_cache_that_cannot_be_written_costs_only_a_warning(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert len(load_split("perov5", "train")) == 5


def test_a_file_that_is_not_the_published_one_is_used_with_one_warning_and_its_own_hash(data: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_split("perov5", "train")
        load_split("perov5", "train")
        load_properties("perov5", "train", ["heat_all"])
    (warning,) = caught
    assert "train.csv is not the published file" in str(warning.message)
    assert split_hash("perov5", "train") == git_blob_sha1(TEXTS["train"])


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_row_without_a_crystal_is_named_with_its_file(data: Path) -> None:
    text = csv_bytes([structure(0), structure(1)]).decode().replace("_cell_length_a ", "_cell_length_q ")
    (data / "val.csv").write_text(csv_bytes([structure(2)]).decode() + text[text.index("\n") + 1 :])
    with pytest.raises(ValueError, match=r"Perov-5 val: row 1 of .*val\.csv holds no crystal"):
        load_split("perov5", "val")


@pytest.mark.filterwarnings("ignore:.*is not the published file")
@pytest.mark.parametrize("content", [b"", b"\n", b"a,b\n1,2\n", b"cif\n\x00\xff", b"id,cif\n1,x,y\n"])
def test_a_file_that_is_no_table_of_crystals_is_one_clear_line(data: Path, content: bytes) -> None:
    (data / "test.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"test\.csv"):
        load_split("perov5", "test")


def test_a_damaged_gz_is_named(data: Path) -> None:
    (data / "train.csv").unlink()
    (data / "train.csv.gz").write_bytes(gzip.compress(TEXTS["train"])[:-20])
    with pytest.raises(ValueError, match=r"train\.csv\.gz: damaged gzip file"):
        load_split("perov5", "train")


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_properties_are_row_by_row_those_of_the_crystals(data: Path) -> None:
    table = load_properties("perov5", "val", ["heat_all", "material_id"])
    assert table.column_names == ["heat_all", "material_id"]
    assert table["heat_all"].to_pylist() == [n / 8 for n in range(6)]
    assert table["material_id"].to_pylist() == [f"{100 + n}" for n in range(6)]


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_an_unknown_property_lists_what_the_file_has(data: Path) -> None:
    with pytest.raises(ValueError, match=r"no column band_gap; it has .*heat_all"):
        load_properties("perov5", "val", ["band_gap"])


def test_a_data_folder_that_does_not_exist_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA_DIR", "/does/not/exist")
    with pytest.raises(ValueError, match="BENCH_DATA_DIR=/does/not/exist: no such folder"):
        load_split("perov5", "train")


@pytest.mark.usefixtures("no_data")
def test_a_server_that_never_answers_is_waited_for_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.datasets.files.TIMEOUT_S", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(DataUnavailable, match=r"val\.csv \(timed out\) or .*val\.csv \(the same host\)"):
            require_file(dataclasses.replace(PEROV5, urls=(f"{base}/a", f"{base}/b")), "val")
        assert time.monotonic() - started < 5
    assert sum(TIMEOUT_S) < 20


@pytest.mark.usefixtures("no_data")
def test_without_data_and_network_one_line_says_what_was_tried_and_where_to_put_it() -> None:
    unreachable = dataclasses.replace(PEROV5, urls=("http://127.0.0.1:9/a", "http://127.0.0.1:9/b"))
    with pytest.raises(DataUnavailable) as caught:
        require_file(unreachable, "test")
    text = str(caught.value)
    assert "\n" not in text
    for part in ("127.0.0.1:9/a/perov_5/test.csv (no connection)", "9/b/perov_5", "$BENCH_DATA_DIR/perov_5", "(unset)"):
        assert part in text


@pytest.mark.usefixtures("no_data")
def test_crystals_that_are_not_at_hand_are_not_downloaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.datasets.files._download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(DataUnavailable, match="python -m bench data mp20"):
        load_split("mp20", "train", download=False)
    with pytest.raises(DataUnavailable):
        split_hash("mp20", "train")


@pytest.mark.usefixtures("no_data")
def test_a_download_goes_on_to_the_next_location_is_verified_and_kept(served: DatasetSpec) -> None:
    file = require_file(served, "val")
    assert file.published
    assert file.content == TEXTS["val"]
    assert file.path == download_path(served, "val")
    offline = dataclasses.replace(served, urls=())
    assert require_file(offline, "val") == file
    assert [entry.name for entry in file.path.parent.iterdir()] == ["val.csv"]


@pytest.mark.usefixtures("no_data")
def test_a_download_with_other_bytes_is_refused_and_not_kept(served: DatasetSpec) -> None:
    changed = dataclasses.replace(served, blobs=dict.fromkeys(TEXTS, ("0" * 40,)))
    with pytest.raises(DataUnavailable, match=f"git blob {git_blob_sha1(TEXTS['val'])} instead of {'0' * 40}"):
        require_file(changed, "val")
    assert not list(download_path(changed, "val").parent.iterdir())


@pytest.mark.usefixtures("no_data")
def test_a_kept_download_that_was_changed_is_fetched_again(served: DatasetSpec) -> None:
    path = require_file(served, "test").path
    path.write_bytes(b"changed")
    assert find_file(served, "test") is None
    assert require_file(served, "test").content == TEXTS["test"]


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_prepare_reports_rows_hashes_and_progress_of_every_split(data: Path) -> None:
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


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_reference_card_holds_what_the_crystals_give(data: Path, tmp_path: Path) -> None:
    card = write_reference_card("perov5", tmp_path)
    train, test = list(load_split("perov5", "train")), list(load_split("perov5", "test"))
    for distribution, structures in ((card.train, train), (card.test, test)):
        pairs = sorted((float(s.density), len(s.composition)) for s in structures)
        np.testing.assert_allclose(distribution.density, [density for density, _ in pairs], rtol=1e-12)
        assert distribution.num_elements.tolist() == [count for _, count in pairs]
    assert card.num_atoms_probabilities.tolist() == [0, 0.4, 0.2, 0.2, 0.2]  # 1, 2, 3, 4, 1 atoms
    symbols = [site.specie.Z for s in train for site in s]
    assert card.element_counts[8] == symbols.count(8)
    assert card.element_counts.sum() == len(symbols)
    assert card.splits["val"].rows == 6
    assert card.splits["val"].blob == git_blob_sha1(TEXTS["val"])
    assert "train, val, test that are not byte-identical" in card.note


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_card_is_read_as_it_was_written_with_the_same_bytes_each_time(data: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written = write_reference_card("perov5", tmp_path / name)
        assert ReferenceCard.read(tmp_path / name, "perov5").sha256 == written.sha256
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / name).iterdir())])
    assert digests[0] == digests[1]


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_card_that_was_changed_is_refused(data: Path, tmp_path: Path) -> None:
    write_reference_card("perov5", tmp_path)
    path = tmp_path / "perov5.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "element_counts": {"8": 3}}))
    with pytest.raises(ValueError, match="do not belong together"):
        ReferenceCard.read(tmp_path, "perov5")
    path.write_text(json.dumps({**plain, "format": 99}))
    with pytest.raises(ValueError, match="format is 99"):
        ReferenceCard.read(tmp_path, "perov5")
    path.write_text("{")
    with pytest.raises(ValueError, match="not a readable reference card"):
        ReferenceCard.read(tmp_path, "perov5")


@pytest.mark.parametrize("name", ["perov5", "mp20"])
def test_the_shipped_cards_need_no_data(name: str, no_data: None) -> None:
    card = reference_card(name)
    spec = DATASETS[name]
    assert len(card.train) == card.splits["train"].rows == card.num_atoms_counts.sum()
    assert len(card.test) == card.splits["test"].rows == spec.rows["test"]
    for split, entry in card.splits.items():
        assert entry.published == (entry.blob in spec.blobs[split])
    assert all(entry.published for entry in card.splits.values()) == (card.note == "")
    assert (np.diff(card.test.density) >= 0).all()


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["perov5", "mp20"])
def test_the_shipped_card_is_the_one_that_the_data_give(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rebuilt = write_reference_card(name, tmp_path)
    shipped = reference_card(name)
    assert rebuilt.splits == shipped.splits
    for split in ("train", "test"):
        ours, theirs = getattr(shipped, split), getattr(rebuilt, split)
        np.testing.assert_allclose(ours.density, theirs.density, rtol=1e-9)
        np.testing.assert_array_equal(ours.num_elements, theirs.num_elements)
    np.testing.assert_array_equal(shipped.num_atoms_counts, rebuilt.num_atoms_counts)
    np.testing.assert_array_equal(shipped.element_counts, rebuilt.element_counts)


@needs_data
@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_real_crystals_come_in_the_published_convention() -> None:
    texts = load_properties("perov5", "test", ["cif"])["cif"].to_pylist()
    sample = np.random.default_rng(0).choice(len(texts), 40, replace=False)
    parsed = parse_cifs([texts[n] for n in sample], published_crystal, workers=1).filtered
    assert parsed.crystals == Crystals.from_structures([published(texts[n]) for n in sample])
    assert len(texts) == PEROV5.rows["test"]
