"""A batch of predicted structures, and whether it is what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.arrays import IntArray
from bench.interfaces import SampleBatch
from bench.prediction.compositions import composition_name


def require_predictor(generator: Any) -> None:
    """ValueError where a model has no `sample_given`."""
    if not callable(getattr(generator, "sample_given", None)):
        raise ValueError(
            f"{generator.name} predicts no structures: it has no sample_given(compositions, seed); "
            "`bench models` says which have, `bench run` samples it"
        )


def wrong_atoms(batch: SampleBatch, compositions: Sequence[IntArray]) -> str | None:
    """The first crystal of a batch whose atoms are not those asked for, in their order; None where all are right.

    batch: with as many places as compositions.
    """
    filtered = batch.filtered()
    for b, place in enumerate(filtered.indices.tolist()):
        own, asked = filtered.crystals.arrays(b)[0], compositions[place]
        if not np.array_equal(own, asked):
            if np.array_equal(np.sort(own), np.sort(asked)):
                return f"crystal {place} has the atoms of {composition_name(asked)}, but in another order"
            return f"crystal {place} is {composition_name(own)} where {composition_name(asked)} was asked for"
    return None
