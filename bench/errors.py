"""What an exception says, in one line."""

from __future__ import annotations

import os
from pathlib import Path


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of at most 300 characters."""
    text = " ".join(str(error).split()) or "no message"
    return f"{'' if isinstance(error, ValueError) else type(error).__name__ + ': '}{text}"[:300]


def failure(error: Exception) -> str:
    """What an error says, of the operating system's the file and the reason."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def named(error: OSError, path: Path) -> OSError:
    """The error with the file's name and the system's reason: that of a full disk comes without, or in other words."""
    reason = os.strerror(error.errno) if error.errno else error.strerror or str(error)
    return OSError(error.errno, reason, str(path))
