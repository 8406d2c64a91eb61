"""Options as a command was given them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path


class Only(StrEnum):
    """Values of --only of `bench export`; sun: stable, unique and novel at once."""

    valid = "valid"
    stable = "stable"
    sun = "sun"


def refuse_beside_resume(given: Mapping[str, object], run: Path) -> None:
    """ValueError for the first option, of those that a stored run knows itself, that has a value: None is none."""
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option}: {run} knows its own; leave it out, or start a new run")
