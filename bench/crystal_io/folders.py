"""Folders and zips of crystal files. Nothing is written to the disk, and nothing outside of them is read."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from bench.crystal_io.cif import read_cif
from bench.crystal_io.extxyz import read_extxyz
from bench.crystal_io.streams import MAX_PLACES, MAX_TEXT_BYTES, Missing, Place, Remark, open_text, text_stream
from bench.errors import one_line

MEMBER_SUFFIXES = (".cif", ".extxyz", ".xyz")  # each also with .gz
MAX_DIRECTORY_BYTES = 2**26  # of a zip: a million short names, of which Python makes about 1 GiB
MAX_NAME = 1000  # characters by which names are ordered


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a folder or zip. source: where its bytes are, or why they are not read."""

    name: str
    source: Path | zipfile.ZipInfo | Missing

    @property
    def suffix(self) -> str:
        """Of the name without .gz, in small letters."""
        return PurePosixPath(self.name.lower().removesuffix(".gz")).suffix


def read_folder(path: Path) -> Iterator[Place | Remark]:
    """The CIF or extended XYZ files in a folder and its subfolders, in natural order of their names.

    Links are followed where they lead to a file in the same folder. What cannot be read is a reason.
    """
    inside = path.resolve()
    members: list[Member] = []
    lost: list[Place] = []

    def unreadable(error: OSError) -> None:
        place = Path(str(error.filename)).relative_to(path).as_posix()
        lost.append((place, Missing(f"a folder that cannot be read ({error.strerror})")))

    for folder, subfolders, files in os.walk(path, onerror=unreadable):
        for name in sorted(subfolders):
            if Path(folder, name).is_symlink():
                place = Path(folder, name).relative_to(path).as_posix()
                lost.append((place, Missing("a link to a folder, which is not followed; copy the folder here")))
        for name in files:
            file = Path(folder, name)
            members.append(Member(file.relative_to(path).as_posix(), _inside(file, inside)))
    yield from _read_members(members, open_text)
    yield from lost


def _inside(file: Path, inside: Path) -> Path | Missing:
    if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(inside):  # resolve() raises for loops
        return Missing("a link that leads out of the folder; copy the file here")
    if not file.is_file():
        return Missing("a link to nothing" if file.is_symlink() else "neither a file nor a folder")
    return file


def read_zip(path: Path) -> Iterator[Place | Remark]:
    """The CIF or extended XYZ files in a zip, in natural order of their names.

    A file that is damaged, encrypted, packed in an unusual way or whose name climbs out of the archive is a reason.
    ValueError where the archive is damaged or all of it is too large.
    """
    try:
        _check_directory(path)
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged archive raises anything
        raise ValueError(f"not a zip file ({one_line(error)})") from error
    with archive:
        # is_dir() fails for a name that is empty.
        infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
        members = [Member(info.filename, _sound(info)) for info in infos]
        read = [m.source for m in members if m.suffix in MEMBER_SUFFIXES]
        total = sum(info.file_size for info in read if isinstance(info, zipfile.ZipInfo))
        if total > MAX_TEXT_BYTES:
            raise ValueError(f"{total / 2**30:.1f} GiB unpacked; at most {MAX_TEXT_BYTES / 2**30:.2g} are read")

        @contextmanager
        def open_member(info: zipfile.ZipInfo) -> Iterator[TextIO]:
            with archive.open(info) as file, text_stream(file, info.filename.lower().endswith(".gz")) as text:
                yield text

        yield from _read_members(members, open_member)


def _check_directory(path: Path) -> None:
    """ValueError where the list of files in a zip, which is read as a whole, is larger than any use of it."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 2**16 - 22))  # the end record, with the longest comment
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    size = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    wide = tail.rfind(b"PK\x06\x06")
    if size == 2**32 - 1 and wide >= 0:  # does not fit there, so that the newer record says it
        size = int.from_bytes(tail[wide + 40 : wide + 48], "little")
    if size > MAX_DIRECTORY_BYTES:
        raise ValueError(f"its list of files has more than {MAX_DIRECTORY_BYTES >> 20} MiB")


def _sound(info: zipfile.ZipInfo) -> zipfile.ZipInfo | Missing:
    if info.filename.startswith(("/", "\\")) or ".." in _parts(info.filename):
        return Missing("its name climbs out of the archive")
    # Python unpacks bzip2 and LZMA without a bound on what a few bytes become.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Missing(f"packed by method {info.compress_type}; only stored and deflated files are read")
    return info


def _read_members(
    members: list[Member], open_source: Callable[[Any], AbstractContextManager[TextIO]]
) -> Iterator[Place | Remark]:
    """The crystals of the files chosen among the members. open_source: gives the text at a member's source."""
    visible = [m for m in members if not any(p.startswith((".", "__MACOSX")) for p in _parts(m.name) if p != "..")]
    chosen = _chosen(visible)
    if others := [m for m in visible if m.suffix not in MEMBER_SUFFIXES]:
        kinds = ", ".join(sorted({m.suffix or "without a suffix" for m in others})[:8])
        yield Remark(f"files of other kinds ({kinds}) were not read", len(others), of_files=True)
    for member in chosen:
        read = read_cif if member.suffix == ".cif" else read_extxyz
        if isinstance(member.source, Missing):
            yield member.name, member.source
            continue
        try:
            with open_source(member.source) as text:
                yield from read(text, member.name)
        except Exception as error:  # a damaged or encrypted member raises anything; it becomes the reason
            yield member.name, Missing(f"cannot be read ({one_line(error)})")


def _chosen(visible: list[Member]) -> list[Member]:
    """The crystal files in natural order of their names. ValueError where there is none or formats are mixed."""
    by_suffix: dict[str, list[Member]] = {}
    for member in visible:
        if member.suffix in MEMBER_SUFFIXES:
            by_suffix.setdefault(member.suffix, []).append(member)
    if len(by_suffix) > 1:
        found = " and ".join(f"{len(group)} {suffix}" for suffix, group in sorted(by_suffix.items()))
        raise ValueError(f"holds {found} files, perhaps the same crystals twice; name one kind or one file")
    if not by_suffix:
        others = ", ".join(sorted(member.name for member in visible)[:5])
        raise ValueError(f"holds no {' or '.join(MEMBER_SUFFIXES)} file{f', but {others}' if others else ''}")
    found_members = next(iter(by_suffix.values()))
    if len(found_members) > MAX_PLACES:
        raise ValueError(f"holds {len(found_members)} files; at most {MAX_PLACES} are read")
    return sorted(found_members, key=lambda member: natural_order(member.name[:MAX_NAME]))


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorting key in which 2.cif comes before 10.cif."""
    pieces = re.split(r"(\d+)", name)
    numbers = [piece.lstrip("0") if piece.isdecimal() else None for piece in pieces]
    return tuple(
        (1, 0, piece) if number is None else (0, len(number), number)
        for piece, number in zip(pieces, numbers, strict=True)
        if piece
    )
