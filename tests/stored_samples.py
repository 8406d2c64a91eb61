"""Crystals of this package's models that are stored in the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.crystals import Crystals
from bench.store import Run

RUNS = Path(__file__).parents[1] / "examples" / "reproduction" / "runs"
MODELS = (("mp20", "crysldm"), ("mp20-diffcsp", "diffcsp"), ("mp20-cdvae", "cdvae"), ("perov5", "crysldm"))


def stored(run: str, model: str) -> Crystals:
    """All crystals that exist of a model in examples/reproduction/runs/RUN.zip, 1000 were asked for."""
    (folder,) = Run.open(RUNS / f"{run}.zip").folders(model)
    return Crystals.concatenate([part for _, part in folder.existing(np.ones(folder.counted, dtype=bool))])


def two_hundred_crystals() -> Crystals:
    """The first 50 of each of four models, three of MP-20 and one of Perov-5, with six atoms at most."""
    parts = [stored(*place) for place in MODELS]
    return Crystals.concatenate([part[np.flatnonzero(part.num_atoms <= 6)[:50]] for part in parts])
