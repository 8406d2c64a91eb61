"""Predictions that begin at a known structure: the nearest training template, some noise, then the usual steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.arrays import IntArray
from bench.datasets import load_split
from models.baselines.structure_controls import Structure, Templates

# Share of the T times up to which a template is noised before the steps begin; see docs/measurements.
START_SHARE = 0.3


class TemplateStarts:
    """Where the prediction of each composition begins, by `Templates` of a data set's training split.

    others_only: a training crystal of the same composition is no template, so that new crystals are made.
    """

    def __init__(self, dataset: str, others_only: bool) -> None:
        self.dataset = dataset
        self.others_only = others_only
        self._templates: Templates | None = None

    def load(self) -> None:
        """Reads the training crystals. DataUnavailable where they are not at hand; nothing is downloaded."""
        self._templates = Templates(load_split(self.dataset, "train", download=False))

    def __call__(self, compositions: Sequence[IntArray], seed: int) -> list[Structure | None]:
        """A start for each composition, (N_i,) atomic numbers; None, which is noise, where there is no template."""
        if self._templates is None:
            self.load()
        assert self._templates is not None
        rng = np.random.default_rng(seed)
        found = [self._templates.structure(np.asarray(row), rng, self.others_only) for row in compositions]
        return [None if isinstance(start, str) else start for start in found]


def with_start(card: Mapping[str, Any], starts: TemplateStarts | None) -> dict[str, Any]:
    """A weights' card whose "sampling" says that it begins at templates, and which; unchanged where it does not."""
    if starts is None:
        return dict(card)
    templates = "training crystals of other compositions" if starts.others_only else "training crystals"
    return {**card, "sampling": {**card["sampling"], "start": {"templates": templates, "noise_of_time": START_SHARE}}}
