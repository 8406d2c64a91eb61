"""Metrics with intervals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure with its 95 % interval. `value` None is undefined; at zero hits `low` alone is the one-sided bound."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
