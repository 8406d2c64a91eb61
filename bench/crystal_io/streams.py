"""Texts of crystals, read as a stream: no file, however large or packed, is in memory as a whole."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO, cast

from bench.crystals import Crystals, FilteredCrystals
from bench.errors import one_line

MAX_PLACES = 1_000_000  # crystals or reasons of one file or folder; some 300 bytes each
MAX_ATOMS = 5_000  # of one crystal
MAX_CIF_CHARACTERS = 2**20  # of one crystal
MAX_JSON_CHARACTERS = 2**23  # of one crystal; Python's objects of a JSON text are up to 25 times as large as the text
MAX_TEXT_BYTES = 4 * 2**30  # of one file or archive, unpacked


@dataclass(frozen=True, slots=True)
class CifText:
    """A text with one CIF block, still to be parsed."""

    text: str


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no crystal."""

    reason: str


def only(filtered: FilteredCrystals) -> Crystals | Missing:
    """The one crystal asked for, or why it is not there."""
    return Missing(filtered.reasons[0]) if filtered.reasons else filtered.crystals


@dataclass(frozen=True, slots=True)
class Remark:
    """What was not read as it stands in a file, and of how many crystals; or of how many files, which were not read."""

    text: str
    count: int
    of_files: bool = False


Place = tuple[str, Crystals | CifText | Missing]  # name and what is there; Crystals of one


@contextmanager
def text_stream(file: IO[bytes], packed: bool) -> Iterator[TextIO]:
    """The text in an open binary file, gunzipped on the way where it is packed; undecodable bytes become U+FFFD.

    ValueError, also for what is read inside, where the gzip is damaged or the text longer than MAX_TEXT_BYTES.
    """
    try:
        content = _Bounded(cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if packed else file)
        with io.TextIOWrapper(
            io.BufferedReader(content, 2**16), encoding="utf-8-sig", errors="replace", newline=""
        ) as text:
            yield text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"damaged gzip file ({one_line(error)})") from error


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The text of a file, unpacked where its name ends in .gz. ValueError as `text_stream`, OSError as `open`."""
    with open(path, "rb") as file, text_stream(file, path.suffix.lower() == ".gz") as text:
        yield text


def printable(text: str, most: int) -> str:
    """A text as one line of at most that many characters: others than letters, signs and spaces are escaped."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


class _Bounded(io.RawIOBase):
    """A binary file that refuses to give more than MAX_TEXT_BYTES."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MAX_TEXT_BYTES

    def readable(self) -> bool:
        """Yes: that is all it can do."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fills a part of the buffer, with a bounded read even of a packed file; 0 at its end."""
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"more than {MAX_TEXT_BYTES / 2**30:.2g} GiB of text; split it")
        buffer[: len(content)] = content
        return len(content)


def bounded_lines(text: TextIO, most: int) -> Iterator[str]:
    """The lines of a text without their ends. Of one longer than `most` only the first most + 1 characters."""
    while line := text.readline(most + 1):
        rest = line
        while rest and not rest.endswith(("\n", "\r")):
            rest = text.readline(most + 1)
        yield line.rstrip("\r\n")
