"""Predictions that begin at a structure, not at noise: the structure, some noise, then the usual steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.arrays import IntArray
from models.baselines.structure_controls import Structure

# Share of the T times up to which a structure is noised before the steps begin; see docs/measurements.
START_SHARE = 0.3


class Starts(Protocol):
    """Where the predictions of compositions begin."""

    @property
    def card(self) -> dict[str, Any]:
        """What a weights' card says of it."""

    def load(self, device: str) -> None:
        """Reads what it needs. DataUnavailable or ValueError where that is not at hand; nothing is downloaded."""

    def __call__(self, compositions: Sequence[IntArray], seed: int) -> Sequence[Structure | None]:
        """A structure for each composition, (N_i,) atomic numbers in their order; None where it begins at noise."""


# (data set, weights of the structure network) -> starts, not loaded.
StartsFactory = Callable[[str, Path], Starts]


def with_start(card: Mapping[str, Any], starts: Starts | None) -> dict[str, Any]:
    """A weights' card whose "sampling" says where predictions begin; unchanged where they begin at noise."""
    if starts is None:
        return dict(card)
    return {**card, "sampling": {**card["sampling"], "start": {**starts.card, "noise_of_time": START_SHARE}}}
