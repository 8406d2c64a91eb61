"""What a file of crystals cost: the JSON file beside it that `--meta` names."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.atomic import read_json


@dataclass(frozen=True)
class FileCosts:
    """Costs as their author states them, each None where it is not said.

    steps: of the sampler. network_evaluations: per crystal. sampling_seconds: of all crystals asked for together.
    load_seconds: of starting up. num_samples: crystals asked for; those that the file does not hold count as lost.
    measured: how the seconds were measured (command, device), kept in the run's manifest.
    """

    steps: int | None = None
    network_evaluations: float | None = None
    sampling_seconds: float | None = None
    load_seconds: float | None = None
    num_samples: int | None = None
    measured: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> FileCosts:
        """From a JSON file. ValueError names a key that is unknown or a value that is no such number."""
        content = read_json(path)
        known = [field.name for field in fields(cls)]
        for key, value in content.items():
            if key not in known:
                raise ValueError(f"{path}: unknown key {key!r}; known are {', '.join(known)}")
            if key == "measured":
                if not isinstance(value, dict):
                    raise ValueError(f"{path}: measured is {value!r}, not an object")
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ValueError(f"{path}: {key} is {value!r}, not a number >= 0")
            if key in ("steps", "num_samples") and value != int(value):
                raise ValueError(f"{path}: {key} is {value!r}, not a whole number")
        content |= {key: int(content[key]) for key in ("steps", "num_samples") if key in content}
        return cls(**content)

    def to_json(self) -> dict[str, Any]:
        """What is said, as JSON."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in said.items() if value is not None}
