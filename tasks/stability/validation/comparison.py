"""Energies above the hull by a potential against published ones: errors, and who calls what stable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.arrays import BoolArray, FloatArray
from bench.chemistry import F_BLOCK, KINDS, kind_of, symbols_in
from bench.statistics import Metric, wilson
from tasks.stability.hull import Hull
from tasks.stability.task import STABLE_BELOW
from tasks.stability.validation.energies import Measured

DIGITS = 4


def above_hull(hull: Hull, formulas: Sequence[str], energies: FloatArray) -> FloatArray:
    """(B,) eV/atom above the hull of crystals with these reduced formulas; NaN where an element has no phase."""
    from pymatgen.core import Composition

    found = np.full(len(formulas), np.nan)
    for b, formula in enumerate(formulas):
        amounts = Composition(formula).get_el_amt_dict()
        if hull.elements >= set(amounts):
            found[b] = hull.energy_above(amounts, float(energies[b]))
    return found


def compare(above: FloatArray, published: FloatArray, converged: BoolArray) -> dict[str, Any]:
    """Errors in eV/atom, over crystals that have a number, and the table of who calls what stable.

    Below the hull counts as on it: DFT's hull has the phase itself in it, and ours does not. converged: what has not is
    not called stable.
    """
    known = np.isfinite(above)
    ours, theirs = np.maximum(above[known], 0.0), np.maximum(published[known], 0.0)
    called, is_stable = (ours < STABLE_BELOW) & converged[known], theirs < STABLE_BELOW
    error = ours - theirs
    return {
        "crystals": int(known.sum()),
        "without_number": int((~known).sum()),
        "mae": _rounded(np.abs(error).mean()),
        "median_error": _rounded(np.median(np.abs(error))),
        "bias": _rounded(error.mean()),
        "bias_of_unstable": _rounded(error[~is_stable].mean()) if (~is_stable).any() else None,
        "pearson": _rounded(np.corrcoef(ours, theirs)[0, 1]),
        "agree": _rate(called == is_stable),
        "unstable_called_stable": _rate(called[~is_stable]),
        "stable_called_unstable": _rate(~called[is_stable]),
        "stable_rate": _rate(called),
        "published_stable_rate": _rate(is_stable),
        "confusion": {
            "stable_by_both": int((called & is_stable).sum()),
            "by_potential_only": int((called & ~is_stable).sum()),
            "published_only": int((~called & is_stable).sum()),
            "by_neither": int((~called & ~is_stable).sum()),
        },
    }


def by_chemistry(formulas: Sequence[str], above: FloatArray, published: FloatArray) -> dict[str, dict[str, Any]]:
    """For each kind of chemistry, and for the f-block across them: crystals, MAE, bias, how many on the wrong side."""
    systems = [symbols_in(formula) for formula in formulas]
    kinds = np.array([kind_of(system) for system in systems])
    members = {kind: kinds == kind for kind in KINDS}
    members["with lanthanides or actinides"] = np.array([bool(system & F_BLOCK) for system in systems])
    ours = np.maximum(above, 0.0)
    found = {}
    for kind, here in members.items():
        chosen = here & np.isfinite(above)
        if chosen.any():
            error = ours[chosen] - published[chosen]
            wrong = (ours[chosen] < STABLE_BELOW) != (published[chosen] < STABLE_BELOW)
            found[kind] = {
                "crystals": int(chosen.sum()),
                "mae": _rounded(np.abs(error).mean()),
                "bias": _rounded(error.mean()),
                "wrong_side": int(wrong.sum()),
            }
    return found


def costs(measured: Measured) -> dict[str, Any]:
    """Mean user CPU seconds of a single point and of a relaxation, atoms of a crystal, steps; over those relaxed."""
    relaxed = measured[np.isfinite(measured.relaxed)]
    found = {"atoms": _rounded(measured.num_atoms.mean()), "point_seconds": _rounded(measured.point_seconds.mean())}
    if not relaxed.ids:
        return found
    return {
        **found,
        "relax_seconds": _rounded(relaxed.relax_seconds.mean()),
        "steps": _rounded(relaxed.steps.mean()),
        "converged": _rounded(relaxed.converged.mean()),
    }


def _rate(hits: BoolArray) -> dict[str, Any]:
    found: Metric = wilson(int(hits.sum()), len(hits))
    return {name: _rounded(x) if isinstance(x, float) else x for name, x in found.to_json().items()}


def _rounded(figure: float) -> float:
    return round(float(figure), DIGITS)
