"""A finished run as one file: a zip archive that is read where it is, never unpacked for that.

Its members are stored, not compressed: Parquet is compressed already, so an archive cannot swell when it is read, and
the same run gives the same bytes with every version of zlib. `bench archive` writes one (`bench.commands.archive`).
"""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

MOST_MEMBERS = 100_000  # a run of a million crystals has about a thousand
ENCRYPTED = 0x1
LINK, KIND = 0o120000, 0o170000  # of the Unix mode in a member's attributes
REMEDY = "make one with `bench archive RUN --out RUN.zip`"


def open_archive(root: Path) -> zipfile.Path:
    """The members of an archive, once all of them were checked.

    ValueError where a file is no archive, is damaged, or holds what `bench archive` does not write: compressed or
    encrypted members, links, names that lead out of it, two of one name, more bytes than the file has.
    """
    try:
        archive = zipfile.ZipFile(root)
        _check(archive, root)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, UnicodeDecodeError, EOFError) as error:
        raise ValueError(f"{root}: no archive of a run, or a damaged one ({error}); {REMEDY}") from error
    return zipfile.Path(archive)


def _check(archive: zipfile.ZipFile, root: Path) -> None:
    """ValueError names the first member that is not one of a run's; BadZipFile where the archive is damaged."""
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"{root}: {len(members)} members, and a run has at most {MOST_MEMBERS}; {REMEDY}")
    names: set[str] = set()
    for member in members:
        if fault := _fault(member, names):
            raise ValueError(f"{root}: member {member.filename!r} {fault}; {REMEDY}")
        names.add(member.filename)
    size, claimed = root.stat().st_size, sum(member.file_size for member in members)
    if claimed > size:
        raise ValueError(f"{root}: its members claim {claimed} bytes, and the file has {size}; {REMEDY}")
    damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{root}: member {damaged!r} is damaged, its checksum is another; {REMEDY}")


def _fault(member: zipfile.ZipInfo, names: set[str]) -> str | None:
    """Why a member cannot be one of a run's files; None where it can. names: of the members before it."""
    name = member.filename
    if name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
        return "has a name that leads out of the archive"
    if name in names:
        return "is there twice"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        return "is compressed, and those of a run are stored"
    if (member.external_attr >> 16) & KIND == LINK:
        return "is a link"
    return None
