"""A calibration as it is stored, and the share of crystals that DFT would call stable, with its interval."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from bench.arrays import BoolArray, FloatArray
from bench.chemistry import kind_of, symbols_in
from bench.statistics import HIGH_QUANTILE, LOW_QUANTILE, Metric
from tasks.stability.calibration.logistic import probabilities

DRAWS = 2000
DRAWS_AT_ONCE = 50  # times 10,000 crystals are 4 MB
FITTED_WITH = ("potential", "hull", "screen", "relaxation", "relaxation_after_the_first")


class NoCalibration(ValueError):
    """A chain has none that holds for these potentials, hull and settings; the message says why."""


@dataclass(frozen=True)
class Calibration:
    """P(DFT's energy above hull < line) = logistic(intercept + slope * energy above hull by the chain).

    coefficients: intercept, and slope per eV/atom; covariance: theirs. elements, kinds: of the crystals it was fitted
    on. outside_sd: standard deviation of the logit's offset of crystals unlike those. card: the whole content of its
    file. sha256: of the file.
    """

    coefficients: FloatArray
    covariance: FloatArray
    elements: frozenset[str]
    kinds: frozenset[str]
    outside_sd: float
    card: Mapping[str, Any]
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Calibration:
        """From the content of a file that `python -m tasks.stability.calibration` wrote."""
        card = json.loads(content)
        return cls(
            np.array(card["coefficients"], dtype=np.float64),
            np.array(card["covariance"], dtype=np.float64),
            frozenset(card["elements"]),
            frozenset(card["kinds"]),
            float(card["outside_logit_sd"]),
            card,
            hashlib.sha256(content).hexdigest(),
        )

    def probability(self, above: FloatArray) -> FloatArray:
        """(n,) for energies (n,) above the hull in eV/atom."""
        return probabilities(_features(above), self.coefficients)

    def is_outside(self, formulas: Sequence[str]) -> BoolArray:
        """Which crystals have an element, or are of a kind of chemistry, that none of those fitted has."""
        systems = [symbols_in(formula) for formula in formulas]
        return np.array([not (s <= self.elements and kind_of(s) in self.kinds) for s in systems], dtype=bool)


def shipped_calibration(label: str) -> Calibration | None:
    """The package's calibration of a chain, whatever it was fitted with; None where there is none."""
    file = resources.files("tasks.stability") / "reference" / f"{label}.calibration.json"
    return Calibration.of(file.read_bytes()) if file.is_file() else None


def find_calibration(label: str, about: Mapping[str, Any]) -> Calibration:
    """The package's calibration of a chain. about: potential, screen, hull and relaxation, as the protocol has them.

    NoCalibration where there is none, or it was fitted with other ones.
    """
    found = shipped_calibration(label)
    if found is None:
        raise NoCalibration(f"{label} was not calibrated against DFT")
    other = first_difference(found.card["fitted_with"], about)
    if other is not None:
        raise NoCalibration(f"the calibration of {label} was fitted with another {other} than this run's")
    return found


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first thing that energies above the hull depend on and that differs, in words; None where nothing does."""
    differing = (what for what in FITTED_WITH if essence(one.get(what)) != essence(other.get(what)))
    return next((what.replace("_", " ") for what in differing), None)


def essence(part: Any) -> Any:
    """A part of a protocol without versions of packages, which change no weights, and what else only describes."""
    if isinstance(part, Mapping):
        if "sha256" in part:
            return part["sha256"]
        return {name: essence(value) for name, value in part.items() if name != "name"}
    return [essence(item) for item in part] if isinstance(part, list) else part


def stable_rate(calibration: Calibration, above: FloatArray, formulas: Sequence[str], n: int, seed: int) -> Metric:
    """The share of n crystals that DFT would call stable. above, formulas: of those among them that were relaxed.

    The interval holds three errors: that of the coefficients, by draws from their covariance; that of chemistry that
    the calibration has not seen, by one offset a draw for all such crystals; and that of the sample, as if DFT had
    labelled n crystals (Jeffreys' interval of a share).
    """
    if n == 0:
        return Metric(None)
    features, outside = _features(above), calibration.is_outside(formulas)
    value = float(calibration.probability(above).sum() / n)
    rng = np.random.default_rng([seed, 20])
    drawn = rng.multivariate_normal(calibration.coefficients, calibration.covariance, DRAWS)  # (DRAWS, 2)
    offsets = rng.normal(0.0, calibration.outside_sd, DRAWS)
    shares = np.empty(DRAWS)
    for start in range(0, DRAWS, DRAWS_AT_ONCE):
        part = slice(start, start + DRAWS_AT_ONCE)
        logits = features @ drawn[part].T + np.outer(outside, offsets[part])  # (crystals, draws)
        shares[part] = (1 / (1 + np.exp(-np.clip(logits, -500, 500)))).sum(axis=0) / n
    hits = shares * n
    low, high = np.quantile(rng.beta(hits + 0.5, n - hits + 0.5), [LOW_QUANTILE, HIGH_QUANTILE])
    return Metric(value, min(float(low), value), max(float(high), value), n)


def _features(above: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(len(above)), above])
