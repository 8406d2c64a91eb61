"""A figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

CONFIDENCE = 0.95
LOW_QUANTILE, HIGH_QUANTILE = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Metric:
    """A figure with its 95 % interval. `value` None is undefined; at zero hits `low` alone is the one-sided bound.

    n: how many crystals, or batches, it comes from. Raises ValueError for NaN and infinity: undefined is None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is None:
                continue
            if not math.isfinite(number):
                raise ValueError(f"{name} of a metric is {number}; what is undefined is None")
            object.__setattr__(self, name, float(number))
        object.__setattr__(self, "n", int(self.n))

    @property
    def has_interval(self) -> bool:
        """Whether value and both bounds are known."""
        return None not in (self.value, self.low, self.high)

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Both bounds; a figure without one is exact there."""
        return self.value if self.low is None else self.low, self.value if self.high is None else self.high

    def to_json(self) -> dict[str, float | int | None]:
        """Its four fields, ready for `json.dumps`."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The metric that `to_json` wrote. ValueError where the keys are others."""
        if set(data) != {"value", "low", "high", "n"}:
            raise ValueError(f"a metric has the keys value, low, high and n, not {', '.join(sorted(data)) or 'none'}")
        return cls(**data)
