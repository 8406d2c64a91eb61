"""Rows of published models: a card held to its fields, crystals to their checksum, figures to what the code gives."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bench.crystal_io import write_crystals
from bench.rows.card import FIELDS, RowCard, checked, schema
from bench.rows.samples import chosen_samples, find_samples
from bench.run_folder.manifest import file_sha256
from bench.store import Run
from tests.command_line import bench
from tests.stored_crystal_runs import perovskites

ROOT = Path(__file__).parents[2]
QUICK = "validity,properties,symmetry,distribution"
CARD = {
    "model": "Somebody's model",
    "dataset": "perov5",
    "source": "10.1000/182",
    "licence": "MIT",
    "crystals": "generated",
    "samples": {"file": "samples.zip", "sha256": "0" * 64},
}


def add(folder: Path, *further: str, name: str = "somebody", crystals: str = "generated") -> Path:
    file = folder / "samples.extxyz"
    if not file.exists():
        write_crystals(perovskites(6), file)
    words = ["--model-title", CARD["model"], "--dataset", CARD["dataset"], "--source", CARD["source"]]
    words += ["--licence", CARD["licence"], "--name", name, "--crystals", crystals, "--to", folder / "rows"]
    assert bench("rows", "add", file, *words, *further) == 0
    return folder / "rows" / name


def score(row: Path, work: Path) -> None:
    assert bench("rows", "score", row, "--tasks", QUICK, "--work", work, "--workers", 1) == 0


def test_a_row_is_added_scored_checked_and_stands_in_the_leaderboard_with_dashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = add(tmp_path, "--set", "parameters=12000000", "--set", "sampling_seconds=3")
    score(row, tmp_path / "work")
    assert bench("rows", "check", row, "--workers", 1) == 0
    assert "sound" in capsys.readouterr().out
    text = (row / "manifest.json").read_text() + (row / "summary.json").read_text()
    assert str(tmp_path) not in text  # no folders of whoever scored it
    chosen = add(tmp_path, name="chosen", crystals="chosen")
    score(chosen, tmp_path / "work")
    capsys.readouterr()
    assert bench("leaderboard", row, chosen) == 0
    shown = capsys.readouterr().out
    ranked, apart = (line.split() for line in shown.splitlines() if "Somebody's model " in line and "6" in line.split())
    assert ranked[0] == "1"
    assert apart[0] == "–"
    assert "parameters 12000000" in shown
    assert "device –" in shown
    written = json.loads((chosen / "card.json").read_text())
    (chosen / "card.json").write_text(json.dumps({**written, "model": "a\x1b[2Jb", "note": "Told\x07 so."}))
    assert bench("leaderboard", row, chosen) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "Told\\x07 so." in shown
    (chosen / "card.json").write_text(json.dumps(written))

    stored = (row / "manifest.json").read_bytes()
    for command in (["run", "--resume", row], ["rescore", row], ["export", row, "--out", tmp_path / "x.zip"]):
        assert bench(*command) == 2
        assert "the folder of a row" in capsys.readouterr().err
    assert (row / "manifest.json").read_bytes() == stored

    summary = json.loads((row / "summary.json").read_text())
    summary["models"]["somebody"]["metrics"]["valid"]["value"] += 1e-6
    (row / "summary.json").write_text(json.dumps(summary))
    (chosen / "samples.extxyz").write_text("changed")
    empty = add(tmp_path, name="empty")
    score(empty, tmp_path / "work")
    (empty / "samples.extxyz").write_text("no crystal")
    card = json.loads((empty / "card.json").read_text())
    digest = file_sha256(empty / "samples.extxyz")
    manifest = json.loads((empty / "manifest.json").read_text())
    card["samples"]["sha256"] = manifest["models"]["empty"]["samples"]["sha256"] = digest
    (empty / "card.json").write_text(json.dumps(card))
    (empty / "manifest.json").write_text(json.dumps(manifest))
    assert bench("rows", "check", empty, row, chosen, "--workers", 1) == 1
    failed = capsys.readouterr().out
    assert f"FAILED {empty}: " in failed
    assert f"FAILED {row}: valid is stored as" in failed
    assert f"FAILED {chosen}: {chosen / 'samples.extxyz'}: its SHA-256 is" in failed


def test_a_row_whose_card_or_protocol_changed_since_it_was_scored_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = add(tmp_path)
    assert bench("rows", "check", row) == 1
    assert "not scored yet" in capsys.readouterr().out
    score(row, tmp_path / "work")
    card = json.loads((row / "card.json").read_text())
    (row / "card.json").write_text(json.dumps({**card, "steps": 5}))
    manifest = json.loads((row / "manifest.json").read_text())
    manifest["protocol"]["tasks"]["validity"]["min_distance_angstrom"] = 0.7
    manifest["protocol"]["tasks"]["symmetry"]["spglib"] = "0.1"
    (row / "manifest.json").write_text(json.dumps(manifest))
    assert bench("rows", "check", row) == 1
    failed = capsys.readouterr().out
    assert "scored.costs.steps: null -> 5; write the scores anew" in failed
    assert "protocol.tasks.validity.min_distance_angstrom: 0.7 -> 0.5" in failed
    assert "spglib" not in failed  # the figures tell whether a library's version matters


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "../out"], "use letters, digits and . _ + @ - for the name of its folder"),
        (["--name", "new", "--set", "steps=many"], "'many' is no number"),
        (["--name", "new", "--set", "stesp=1"], "fields are model, dataset"),
        (["--name", "new", "--set", "samples.sha256=1"], "samples.sha256 is '1', not 64 digits"),
    ],
)
def test_a_row_that_cannot_be_is_not_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (tmp_path / "samples.extxyz").write_text("")
    said = ["--model-title", "m", "--dataset", "perov5", "--source", "x", "--licence", "MIT", "--crystals", "relaxed"]
    assert bench("rows", "add", tmp_path / "samples.extxyz", *said, *words, "--to", tmp_path / "rows") == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["samples.extxyz"]


def test_crystals_that_stay_elsewhere_are_found_in_the_data_folder_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    row = add(tmp_path, "--elsewhere")
    assert not (row / "samples.extxyz").exists()
    assert bench("rows", "score", row, "--work", tmp_path / "work") == 2
    assert "samples.extxyz is not here; get it from 10.1000/182, then name it with --samples" in capsys.readouterr().err
    assert find_samples(RowCard.read(row), row, tmp_path / "samples.extxyz") == tmp_path / "samples.extxyz"
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples.extxyz").rename(tmp_path / "samples" / "samples.extxyz")
    assert find_samples(RowCard.read(row), row).parent.name == "samples"


def test_the_members_of_a_zip_that_a_card_means_are_the_same_file_each_time(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("base/b.cif", "base/a.cif", "base/a_twice.cif", "other/c.cif"):
            archive.writestr(name, name)
    only = {"file": "all.zip", "sha256": "0" * 64, "only": ["base/*"], "without": ["*_twice.cif"]}
    card = RowCard("row", checked({**CARD, "samples": only}, "card"))
    parts = [chosen_samples(card.samples, tmp_path / "all.zip", tmp_path / place) for place in "xy"]
    assert zipfile.ZipFile(parts[0]).namelist() == ["base/a.cif", "base/b.cif"]
    assert parts[0].read_bytes() == parts[1].read_bytes()
    wrong = RowCard("row", checked({**CARD, "samples": {**only, "only": ["bsae/*"]}}, "card"))
    with pytest.raises(ValueError, match=r"no file in it fits 'bsae/\*', which the card names"):
        chosen_samples(wrong.samples, tmp_path / "all.zip", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_": "x"}, "unknown field model_; known are model"),
        ({"licence": " "}, 'licence is " ", not a text'),
        ({"source": "a\x1b[2Jb"}, "source is .*, not a text of one line"),
        ({"steps": 1.5}, "steps is 1.5, not a whole number >= 0; leave out what is not known"),
        ({"sampling_seconds": float("nan")}, "sampling_seconds is NaN, not a number >= 0"),
        ({"crystals": "best"}, 'crystals is "best", not one of generated, relaxed, chosen'),
        ({"dataset": "mp21"}, "mp21"),
        ({"samples": "file.zip"}, 'samples is "file.zip", not an object with file and sha256'),
        ({"samples": {"file": "a.zip"}}, "no samples.sha256"),
        ({"samples": {"file": "../a.zip", "sha256": "0" * 64}}, "name the file alone, without folders"),
        ({"samples": {"file": "summary.json", "sha256": "0" * 64}}, "as another file of a row"),
        ({"samples": {"file": "a.csv", "sha256": "0" * 64, "only": ["*"]}}, "choose among the files of a zip"),
    ],
)
def test_a_field_of_a_card_that_is_wrong_is_named_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked({**CARD, **changes}, "card.json")


def test_a_card_without_a_field_that_it_must_have_is_refused_and_the_schema_names_the_same_fields() -> None:
    assert set(schema()["properties"]) == set(FIELDS)
    for name in schema()["required"]:
        with pytest.raises(ValueError, match=f"no {name} "):
            checked({key: value for key, value in CARD.items() if key != name}, "card.json")


@pytest.mark.parametrize("row", sorted((ROOT / "rows").glob("*/card.json")), ids=lambda path: path.parent.name)
def test_a_row_of_this_repository_has_a_card_and_scores(row: Path) -> None:
    card = RowCard.read(row.parent)
    assert Run.open(row.parent).results()[card.name]["requested"] > 0
