"""A run in one file: packed, read as it is, scored in a copy, and refused where it is none."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import runner
from bench.commands.archive import copy, pack
from bench.rescoring import rescore
from bench.run_folder.archive import open_archive
from bench.store import Run, report_folder
from tests.command_line import bench

STORED = Path(__file__).parents[2] / "examples" / "runs" / "perov5.zip"  # the run of README's table


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(STORED, tmp_path / "perov5.zip"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy(STORED, tmp_path / "folder" / "perov5")
    return tmp_path / "folder" / "perov5"


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert bench(*arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert bench(*arguments) == 2
    return capsys.readouterr().err


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as content:
        for name, data in members.items():
            content.writestr(name, data)
    return path


def test_a_run_that_was_copied_out_of_an_archive_packs_into_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == STORED.read_bytes()


def test_an_archive_holds_no_name_of_a_machine_or_its_folders_and_no_report(folder: Path, tmp_path: Path) -> None:
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text().replace('"host": ""', '"host": "somewhere"'))
    first, second, *_ = content["models"].values()
    first["spec"] |= {"text": "a=/somewhere/a.csv", "target": "/somewhere/a.csv", "is_file": True}
    second["spec"] |= {"text": "b=/somewhere/b.safetensors", "weights": "/somewhere/b.safetensors"}
    manifest.write_text(json.dumps({**content, "hull": "/somewhere/hull.json.gz"}))
    (folder / "report").mkdir()
    (folder / "report" / "table1.txt").write_text("a table")
    pack(folder, tmp_path / "again.zip")
    packed = zipfile.ZipFile(tmp_path / "again.zip")
    assert [name for name in packed.namelist() if "report" in name] == []
    assert b"somewhere" not in packed.read("manifest.json")
    stored = json.loads(packed.read("manifest.json"))
    one, other, *_ = stored["models"].values()
    assert stored["hull"] == "hull.json.gz"
    assert (one["spec"]["text"], one["spec"]["target"]) == ("a=a.csv", "a.csv")
    assert (other["spec"]["text"], other["spec"]["weights"]) == ("b=b.safetensors", "b.safetensors")


@pytest.mark.parametrize("command", [["leaderboard"], ["report", "--at", "1s"]])
def test_what_is_shown_of_an_archive_is_what_is_shown_of_its_folder(
    command: list[str], archive: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = command
    assert shown(capsys, first, archive, *others) == shown(capsys, first, folder, *others)


@pytest.mark.slow
def test_tables_and_figures_of_an_archive_go_beside_it_and_leave_it_alone(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, "report", archive)
    assert "run perov5:" in text
    assert {"table1.txt", "figure2.png", "yield_curve.png"} <= {path.name for path in report_folder(archive).iterdir()}
    assert report_folder(archive) == archive.with_name("perov5-report")
    assert archive.read_bytes() == STORED.read_bytes()


def test_a_baseline_of_an_archive_is_met_by_the_archive(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = archive.with_name("baseline.json")
    shown(capsys, "baseline", archive, "--out", baseline)
    assert "no regression" in shown(capsys, "check", archive, "--against", baseline, "--exact")


def test_every_crystal_of_an_archive_is_read_where_it_is(archive: Path, folder: Path) -> None:
    one, other = Run.open(archive), Run.open(folder)
    for model in one.models:
        shards = zip(one.folders(model)[0].shards(), other.folders(model)[0].shards(), strict=True)
        assert all(packed.read().crystals == unpacked.read().crystals for packed, unpacked in shards)


def test_only_a_finished_run_is_packed_into_a_new_file_of_that_ending(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is named NAME.zip"):
        pack(folder, tmp_path / "again.tar")
    with pytest.raises(ValueError, match="is an archive already"):
        pack(STORED, tmp_path / "again.zip")
    (tmp_path / "there.zip").touch()
    with pytest.raises(ValueError, match="is there already"):
        pack(folder, tmp_path / "there.zip")
    (folder / "summary.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        pack(folder, tmp_path / "again.zip")


@pytest.mark.parametrize("work", [rescore, runner.resume])
def test_a_run_in_an_archive_is_not_written_to(work: Callable[[Path], object], archive: Path) -> None:
    with pytest.raises(ValueError, match="an archive is only read; `bench rescore .* --out FOLDER`"):
        work(archive)
    assert archive.read_bytes() == STORED.read_bytes()


def test_rescoring_an_archive_works_on_a_copy(
    tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ["run", "--models", "fake_generators:Fake", "--dataset", "perov5", "--num-samples", "12", "--workers", "1"]
    shown(capsys, *run, "--out", "r")
    shown(capsys, "archive", "r", "-o", "r.zip")
    shown(capsys, "rescore", "r.zip", "--out", "scored", "--workers", "1")
    ledgers = [Run.open(Path(name)).summary()["models"]["fake"]["ledger"] for name in ("r.zip", "scored")]
    assert ledgers[0] == ledgers[1]
    assert (Path("scored") / "fake" / "batches.parquet").read_bytes() == (
        Path("r") / "fake" / "batches.parquet"
    ).read_bytes()
    assert "holds a run already" in refusal(capsys, "rescore", "r.zip", "--out", "r")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no archive of a run"),
        (b"just text", "no archive of a run"),
        (STORED.read_bytes()[:-100], "no archive of a run"),
        (STORED.read_bytes()[: len(STORED.read_bytes()) // 2], "no archive of a run"),
    ],
    ids=["empty", "text", "without its end", "half of it"],
)
def test_a_file_that_is_no_archive_is_one_line(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    line = refusal(capsys, "report", tmp_path / "x.zip")
    assert said in line
    assert "x.zip" in line
    assert line.count("\n") == 1


def test_an_archive_without_a_manifest_a_summary_or_a_table_says_which(tmp_path: Path) -> None:
    whole = {name: zipfile.ZipFile(STORED).read(name) for name in zipfile.ZipFile(STORED).namelist()}
    readers: dict[str, tuple[Callable[[Run], object], str]] = {
        "manifest.json": (Run.summary, r"no run there \(no manifest.json\)"),
        "summary.json": (Run.summary, "it has no summary.json"),
        "crysldm/stability.parquet": (
            lambda run: run.task_table("crysldm", "stability"),
            "crysldm/stability.parquet: not scored; `bench rescore .* --out FOLDER` writes it",
        ),
        "crysldm/samples/000000.parquet": (
            lambda run: list(run.folders("crysldm")[0].shards()),
            "crysldm/samples/000000.parquet: missing or damaged; pack the run anew",
        ),
    }
    for missing, (read, said) in readers.items():
        damaged = zipped(tmp_path / "x.zip", {name: data for name, data in whole.items() if name != missing})
        with pytest.raises(ValueError, match=said):
            read(Run.open(damaged))


@pytest.mark.parametrize("name", ["../manifest.json", "/manifest.json", "a/../../x", "C:/x", "a\\x"])
def test_names_that_lead_out_of_an_archive_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leads out of the archive"):
        open_archive(zipped(tmp_path / "x.zip", {name: b"{}"}))
    with pytest.raises(ValueError, match="leads out of the archive"):
        copy(tmp_path / "x.zip", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_compressed_members_are_refused_before_they_are_read(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "x.zip", {"manifest.json": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="'manifest.json' is compressed"):
        open_archive(bomb)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Two entries of the directory that point at the same bytes: the archive would be larger inside than outside."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        written.writestr("a" * 8, bytes(1000))
        first = written.infolist()[0]
        for number in range(20):
            twin = zipfile.ZipInfo(f"{number:08d}")
            twin.header_offset, twin.CRC = first.header_offset, first.CRC
            twin.compress_size = twin.file_size = 1000
            written.filelist.append(twin)
        written._didModify = True  # type: ignore[attr-defined]
    (tmp_path / "x.zip").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="claim 21000 bytes"):
        open_archive(tmp_path / "x.zip")


def test_a_link_a_twin_and_an_encrypted_member_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("manifest.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as written:
        written.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "twin.zip", "w") as written:
        written.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            written.writestr("a", "2")
    plain = zipped(tmp_path / "encrypted.zip", {"a": b"1"}).read_bytes()
    place = plain.index(b"PK\x01\x02") + 8  # the flags in the directory
    (tmp_path / "encrypted.zip").write_bytes(plain[:place] + b"\x01" + plain[place + 1 :])
    for name, said in {"link": "is a link", "twin": "is there twice", "encrypted": "is encrypted"}.items():
        with pytest.raises(ValueError, match=said):
            open_archive(tmp_path / f"{name}.zip")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_anywhere_in_an_archive_is_noticed(share: float, tmp_path: Path) -> None:
    content = bytearray(STORED.read_bytes())
    content[int(share * len(content))] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip: .*(damaged|no archive)"):
        open_archive(tmp_path / "x.zip")
