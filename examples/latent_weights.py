"""CrysLDM whose autoencoder weighs the KL divergence more, for `bench learn`.

From this folder:

python -m bench learn --models latent_weights:weight_1e3,latent_weights:weight_1e2 --dataset perov5 --train-budget 8m
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from models.presets import Preset
from models.training.learning import PresetTraining


def weight_1e3() -> PresetTraining:
    """A hundred times the weight of the preset."""
    return PresetTraining("crysldm-1e-3", "crysldm-fast", None, "crysldm", partial(_weighted, 1e-3))


def weight_1e2() -> PresetTraining:
    """A thousand times that weight."""
    return PresetTraining("crysldm-1e-2", "crysldm-fast", None, "crysldm", partial(_weighted, 1e-2))


def _weighted(kl_weight: float, preset: Preset) -> Preset:
    autoencoder = replace(preset.config.autoencoder, kl_weight=kl_weight)
    return replace(preset, config=replace(preset.config, autoencoder=autoencoder))
