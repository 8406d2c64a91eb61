"""Files that appear whole or not at all, and the lock of a folder."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from bench.errors import with_path

LOCK_NAME = ".lock"


class FolderInUse(ValueError):
    """Another process holds the lock of a run folder; the message says which."""


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes PATH.tmp, flushes it to the disk and renames it, so that PATH is never half written.

    OSError names the file and the reason (read-only folder, disk full); what stood at PATH stays then.
    """
    with replacement(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a text atomically, as UTF-8 and with its own ends of lines."""
    write_bytes(path, text.encode())


def remove_left_over(folder: Path) -> None:
    """Removes temporary files that a killed process left in a folder; its lock must be held."""
    for left in folder.glob("*.tmp"):
        left.unlink()


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A name beside PATH for a file to be written there; in the end it is flushed to the disk and takes PATH's place.

    OSError as `write_bytes`.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # its own name: an orphan may still be writing
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise with_path(error, path) from error


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON atomically. ValueError where the content holds NaN or Infinity, which are not JSON."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Traversable) -> dict[str, Any]:
    """The object in a JSON file. ValueError where it is missing or not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {type(content).__name__}, not an object")
    return content


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Appends one JSON line and flushes it to the disk. A kill leaves at most a torn last line (`read_lines`)."""
    line = json.dumps(content, allow_nan=False) + "\n"
    try:
        with open(path, "ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise with_path(error, path) from error


def read_lines(path: Traversable) -> list[dict[str, Any]]:
    """The whole lines of a file written by `append_line`, none where there is no file. A torn last line is left out.

    ValueError names a line before the last that is not JSON.
    """
    if not path.is_file():
        return []
    *lines, torn = path.read_bytes().split(b"\n")
    del torn  # b"" behind the last newline, else the piece that a kill left
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
        except ValueError:
            raise ValueError(f"{path}: line {number} is not JSON; the file was changed by something else") from None
    return found


def mend_lines(path: Path) -> None:
    """Cuts off a torn last line, so that the next one appended starts at a line of its own."""
    if path.exists():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            write_bytes(path, content[: content.rfind(b"\n") + 1])


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Holds the operating system's lock of a folder; it ends with the process, however that ends.

    FolderInUse says who holds it. POSIX only (flock).
    """
    import fcntl

    with open(folder / LOCK_NAME, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise FolderInUse(f"{folder} is in use by {holder}; wait for it or choose another --out") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield
