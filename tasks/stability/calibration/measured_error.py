"""A chain's error against DFT on generated crystals, as it was measured when its calibration was fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.stability.calibration.probability import essence, shipped_calibration


def measured_error(label: str, potential: Mapping[str, Any]) -> dict[str, Any] | None:
    """Uncalibrated verdicts of a chain on generated crystals against DFT: agreement, errors in eV/atom, the hull.

    label: of the chain; potential: what `chain_protocol` says. None for a chain or weights that were not measured.
    """
    found = shipped_calibration(label)
    if found is None:
        return None
    card = found.card
    if essence(card["fitted_with"]["potential"]) != essence(potential):
        return None
    raw = card["raw"]
    return {
        "measured_on": "generated crystals",
        "crystals": raw["crystals"],
        "stable_below_ev_per_atom": card["line_ev_per_atom"],
        "hull": card["fitted_with"]["hull"]["sha256"],
        "agree": raw["agree"],
        "mae": raw["mae_ev_per_atom"],
        "bias": raw["bias_ev_per_atom"],
        "unstable_called_stable": raw["unstable_called_stable"],
        "stable_by_dft": raw["stable_by_dft"],
        "called_stable": raw["called_stable"],
    }
