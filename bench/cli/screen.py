"""Text for a screen that may not know the signs of the tables."""

from __future__ import annotations

import re
import sys

SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
ASCII_SIGNS = str.maketrans({"≈": "~", "–": "-", "↑": "^", "↓": "v", "×": "x", "Å": "A", "\u00a0": " "})


def writable(text: str, encoding: str | None) -> str:
    """The text where that encoding has all its signs; else in ASCII, with footnotes as [1]."""
    try:
        text.encode(encoding or "ascii")
        return text
    except (UnicodeEncodeError, LookupError):
        replaced = re.sub(f"([{SUPERSCRIPTS}]+)( *)", _bracketed, text.replace("cm³", "cm3"))
        return replaced.translate(ASCII_SIGNS).encode("ascii", "replace").decode()


def show(text: str) -> None:
    """Writes a text to the standard output, with one newline at its end."""
    sys.stdout.write(writable(text.rstrip("\n") + "\n", sys.stdout.encoding))


def _bracketed(found: re.Match[str]) -> str:
    """[1] for ¹. The brackets take the place of padding, so that most columns stay where they are."""
    number = "".join(str(SUPERSCRIPTS.index(digit)) for digit in found[1])
    padding = len(found[2])
    return f"[{number}]" + " " * max(padding - 2, min(padding, 1))
