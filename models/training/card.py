"""The card of trained weights: of which model they are, what they were trained on, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from bench.datasets import split_hash
from models.presets import StageConfig


def training_card(
    name: str, dataset: str, config: Any, stages: Sequence[StageConfig], model: Any, train_crystals: int, **how: Any
) -> dict[str, Any]:
    """What a card says of trained weights, but for their checksum (`models.weights.save_weights`).

    name: of the model in `models.presets`; config: its configuration. stages: as they were trained. how: preset, seed,
    threads, device, finished, training_seconds and what else belongs to this training.
    """
    return {
        "model": name,
        "dataset": dataset,
        "config": asdict(config),
        "stages": [asdict(stage) for stage in stages],
        "data": {split: split_hash(dataset, split) for split in ("train", "val")},
        "train_crystals": train_crystals,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "torch": torch.__version__,
        **how,
    }
