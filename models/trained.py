"""Generators of weights that a user trained, by what their card says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.baselines.cdvae.generator import cdvae
from models.baselines.diffcsp.generator import diffcsp
from models.crysldm.generator import crysldm
from models.weights import read_card

FACTORIES: dict[str, Callable[..., Any]] = {"crysldm": crysldm, "diffcsp": diffcsp, "cdvae": cdvae}


def trained(weights: Path, name: str, dataset: str, steps: int | None = None) -> Any:
    """The generator of a weights file that `bench train` wrote: the model in its card with the sampler of its paper.

    ValueError where the card names no model of ours, or another data set.
    """
    model = read_card(weights).get("model")
    if model not in FACTORIES:
        known = ", ".join(FACTORIES)
        raise ValueError(f"{weights}: its card names the model {model!r}, which is none of {known}; train it anew")
    try:
        generator = FACTORIES[model](dataset, steps=steps, weights=weights)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    generator.name = name
    return generator
