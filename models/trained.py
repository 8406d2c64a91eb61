"""Generators of weights that a user trained, by what their card says of them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from bench import registry
from models.presets import PRESETS
from models.weights import read_card


def trained(weights: Path, name: str, dataset: str, steps: int | None = None, compiled: bool = False) -> Any:
    """The generator of a weights file that `bench train` wrote: the model in its card with the sampler of its paper.

    ValueError where the card names no model of ours, another data set, or a model that is not compiled but asked to be.
    """
    model = str(read_card(weights).get("model"))
    if model not in PRESETS:
        known = ", ".join(PRESETS)
        raise ValueError(f"{weights}: its card names the model {model!r}, which is none of {known}; train it anew")
    factory = registry.plugin("generator", model)
    if compiled and "compiled" not in inspect.signature(factory).parameters:
        raise ValueError(f"{name}: {model} cannot be compiled; leave --compile out")
    options: dict[str, Any] = {"compiled": True} if compiled else {}
    try:
        generator = factory(dataset, steps=steps, weights=weights, **options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    generator.name = name
    return generator
