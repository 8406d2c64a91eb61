"""Predictions that begin at the nearest training crystal, its elements exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrays import IntArray
from bench.datasets import load_split
from models.baselines.structure_controls import Structure, Templates


class TemplateStarts:
    """Where the prediction of each composition begins, by `Templates` of a data set's training split.

    others_only: a training crystal of the same composition is no template, so that new crystals are made.
    """

    def __init__(self, dataset: str, others_only: bool) -> None:
        self.dataset = dataset
        self.others_only = others_only
        self._templates: Templates | None = None

    @property
    def card(self) -> dict[str, Any]:
        """Which crystals are templates."""
        return {"templates": "training crystals of other compositions" if self.others_only else "training crystals"}

    def load(self, device: str = "cpu") -> None:
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


def known_templates(dataset: str, weights: Path) -> TemplateStarts:
    """Starts at any training crystals, those of the same composition first of all."""
    return TemplateStarts(dataset, others_only=False)


def templates_of_others(dataset: str, weights: Path) -> TemplateStarts:
    """Starts at training crystals of other compositions."""
    return TemplateStarts(dataset, others_only=True)
