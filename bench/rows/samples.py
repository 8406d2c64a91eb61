"""The file of crystals of a row: found, held to its checksum, and of a zip the members that its card means."""

from __future__ import annotations

import os
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

from bench.atomic import replacement
from bench.rows.card import RowCard, SamplesFile
from bench.run_folder.manifest import file_sha256

MOST_BYTES = 2**30  # of the chosen members
DATE = (1980, 1, 1, 0, 0, 0)  # the same members give the same bytes


class SamplesNotHere(ValueError):
    """The crystals of a row are not on this machine; the message says how to get them."""


def find_samples(card: RowCard, folder: Path, given: Path | None = None) -> Path:
    """The file of crystals: the one given, else in the row's folder, else in BENCH_DATA_DIR/samples.

    SamplesNotHere where it is nowhere; ValueError where its checksum is another than the card's.
    """
    samples = card.samples
    places = [folder / samples.file]
    if data := os.environ.get("BENCH_DATA_DIR"):
        places.append(Path(data) / "samples" / samples.file)
    path = given or next((place for place in places if place.is_file()), None)
    if path is None or not path.is_file():
        where = samples.url or str(card.content["source"])
        raise SamplesNotHere(
            f"{folder}: {path or samples.file} is not here; get it from {where}, then name it with --samples FILE "
            "or put it into BENCH_DATA_DIR/samples"
        )
    found = file_sha256(path)
    if found != samples.sha256:
        raise ValueError(f"{path}: its SHA-256 is {found}, and the card in {folder} says {samples.sha256}")
    return path


def chosen_samples(samples: SamplesFile, path: Path, work: Path) -> Path:
    """The file that is scored: `path`, or a new zip in `work` of the members of it that the card means.

    The same members give the same bytes. ValueError where the card's patterns leave none, or one of them fits none.
    """
    if not samples.is_part:
        return path
    out = work / f"chosen-{samples.file}"
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        for pattern in (*samples.only, *samples.without):
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"{path}: no file in it fits {pattern!r}, which the card names")
        chosen = sorted(
            name
            for name in names
            if (not samples.only or any(fnmatchcase(name, pattern) for pattern in samples.only))
            and not any(fnmatchcase(name, pattern) for pattern in samples.without)
        )
        if not chosen:
            raise ValueError(f"{path}: the card's patterns leave no file of it")
        size = sum(archive.getinfo(name).file_size for name in chosen)
        if size > MOST_BYTES:
            raise ValueError(f"{path}: the chosen files have {size:,} bytes unpacked; at most {MOST_BYTES:,} are taken")
        work.mkdir(parents=True, exist_ok=True)
        with replacement(out) as temporary, zipfile.ZipFile(temporary, "w") as part:
            for name in chosen:
                part.writestr(zipfile.ZipInfo(name, DATE), archive.read(name))
    return out
