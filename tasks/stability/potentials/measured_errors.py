"""A potential's error against DFT: measured by `tasks.stability.validation`, shipped beside the hulls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

MEASURED_ON = "mpts52"


def measured_errors(potential: Mapping[str, Any]) -> dict[str, Any] | None:
    """Relaxed phases of MPTS-52 by a potential against DFT: agreement about the line, errors in eV/atom, the hull.

    potential: what `Potential.protocol` says. None for weights that were not measured.
    """
    file = resources.files("tasks.stability") / "reference" / f"{Path(potential['name']).name}.validation.json"
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    compared = found["sources"].get(MEASURED_ON)
    if compared is None or found["potential"]["sha256"] != potential.get("sha256"):
        return None
    figures = ("crystals", "agree", "mae", "bias", "unstable_called_stable")
    return {
        "phases": "MPTS-52",
        "stable_below_ev_per_atom": found["stable_below_ev_per_atom"],
        "hull": found["hull"].get("sha256"),
        **{figure: compared["relaxed"][figure] for figure in figures},
    }
