"""What an exception says, on one line; and the one of Ctrl-C."""

from __future__ import annotations

import os
from pathlib import Path

MAX_CHARACTERS = 300  # of a text that may be a parser's, with half the file in it


class Interrupted(Exception):
    """Ctrl-C during a run or a training; the message says how to go on."""

    exit_code = 130


def one_line(error: BaseException, limit: int | None = MAX_CHARACTERS, kind: bool = False) -> str:
    """What an exception says: of the operating system's the file and the reason, else its kind and its text.

    A ValueError speaks for itself, and has its kind only where `kind` asks for it. limit: characters; None for all.
    """
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        speaks_for_itself = not kind and (isinstance(error, ValueError) or type(error) is OSError)
        text = ("" if speaks_for_itself else f"{type(error).__name__}: ") + (str(error).strip() or "no message")
    return " ".join(text.split())[:limit]


def reason_of(error: BaseException) -> str:
    """What an exception says to a reader who knows of which file it is: of the operating system's the reason alone."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)


def with_path(error: OSError, path: Path) -> OSError:
    """The error with the file's name and the system's reason: that of a full disk comes without, or in other words."""
    text = os.strerror(error.errno) if error.errno else error.strerror or str(error)
    return OSError(error.errno, text, str(path))
