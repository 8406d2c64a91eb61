"""Generators of weights that a user trained, by what their card says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import registry
from models.presets import PRESETS
from models.weights import read_card


def trained(weights: Path, name: str, dataset: str, steps: int | None = None) -> Any:
    """The generator of a weights file that `bench train` wrote: the model in its card with the sampler of its paper.

    ValueError where the card names no model of ours, or another data set.
    """
    model = str(read_card(weights).get("model"))
    if model not in PRESETS:
        known = ", ".join(PRESETS)
        raise ValueError(f"{weights}: its card names the model {model!r}, which is none of {known}; train it anew")
    try:
        generator = registry.plugin("generator", model)(dataset, steps=steps, weights=weights)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    generator.name = name
    return generator
