"""Packs a finished run into an archive, and copies one from an archive into a folder where it can be written.

An archive holds what reports and tasks read. Left out is what can be made again (report/ and the table of the journal,
batches.parquet) and the names of the machines and folders that the run was on.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from bench.atomic import replacement
from bench.run_folder.manifest import published
from bench.run_folder.shards import JOURNAL, JOURNAL_TABLE, RELAXED
from bench.store import MANIFEST, STATE, SUMMARY, Run, create_folder

DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: when a run was packed is no part of it
UNIX, MODE = 3, 0o644  # on every system, for the same bytes


def pack(root: Path, out: Path, replace: bool = False) -> str:
    """Writes a finished run into the archive `out`; gives a line that names it. The same run gives the same bytes.

    ValueError where the run is not finished or is an archive already, and where `out` is no .zip or is there already
    (unless it may be replaced).
    """
    run = Run.open(root)
    if run.card is not None:
        raise ValueError(f"{root}: the folder of a row, which has no crystals of a run; it is published as it is")
    if run.is_archive:
        raise ValueError(f"{root}: is an archive already")
    if out.suffix != ".zip":
        raise ValueError(f"--out {out}: the archive of a run is named NAME.zip")
    if out.exists() and not replace:
        raise ValueError(f"--out {out}: is there already; delete it or choose another name")
    run.summary()
    files = {path.relative_to(root).as_posix(): path for path in _files(run)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacement(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(files):
            archive.writestr(_member(name), _manifest(run) if name == MANIFEST else files[name].read_bytes())
    return f"{out}: {len(files)} files, {out.stat().st_size:,} bytes"


def copy(root: Path, folder: Path) -> None:
    """Copies a run, archive or folder, into a new folder. ValueError where that holds files already."""
    run = Run.open(root)
    create_folder(folder)
    if not run.is_archive:
        shutil.copytree(root, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("report", ".*", "*.tmp"))
        return
    with zipfile.ZipFile(root) as archive:
        archive.extractall(folder)
    unpacked = Run.open(folder)
    for samples in (samples for model in unpacked.models for samples in unpacked.folders(model)):
        if samples.batches:
            samples.write_batch_table()


def _files(run: Run) -> Iterator[Path]:
    """The files of a run that are read: manifest, summary, and what each model has.

    That is its state, journal, tables, relaxed crystals and shards.
    """
    yield from (run.root / MANIFEST, run.root / SUMMARY)
    for samples in (samples for model in run.models for samples in run.folders(model)):
        known = [samples.path / STATE, samples.path / JOURNAL, *samples.path.glob("*.parquet")]
        yield from (path for path in known if path.is_file() and path.name != JOURNAL_TABLE)
        yield from (samples.path / RELAXED).glob("*.parquet")
        yield from (samples.samples / shard.path.name for shard in samples.shards())


def _manifest(run: Run) -> bytes:
    return (json.dumps(published(run.manifest), indent=1) + "\n").encode()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, DATE)
    member.create_system, member.external_attr = UNIX, MODE << 16
    return member
