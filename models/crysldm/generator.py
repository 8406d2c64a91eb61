"""CrysLDM as a generator of the harness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.crysldm.autoencoder import AutoencoderConfig
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.crysldm.sampler import SamplerSettings
from models.cspnet import CSPNetConfig
from models.generation import DEFAULT, DiffusionGenerator, Variant, guided, sampler_from_card, usual_settings
from models.guidance import Guidance

AS_WRITTEN = Variant(
    "-as-written", lambda card, strided: replace(usual_settings(SamplerSettings(), strided), min_volume=None)
)
# Ancestral steps, not DDIM: their noise repairs what the few steps of the coordinates get wrong (docs/models.md).
FAST = Variant(
    "-fast",
    lambda card, strided: replace(usual_settings(card, strided), corrector="none", latent_step="ancestral"),
    steps=24,
)
# On MP-20 more weight and more steps give fewer elements to a crystal, but fewer valid compositions (docs/models.md).
GUIDED = guided(FAST, "-guided", Guidance(0.7), steps=16)
AUTOGUIDED = guided(FAST, "-autoguided", Guidance(3.0, (0.2, 0.98), "weak network"), steps=24)


def config_from_card(values: dict[str, Any]) -> CrysLDMConfig:
    """The configuration written in a weights card."""
    return CrysLDMConfig(
        autoencoder=AutoencoderConfig(**values["autoencoder"]),
        network=CSPNetConfig(**values["network"]),
        num_steps=values["num_steps"],
        sigma_range=tuple(values["sigma_range"]),
        loss_weights=tuple(values["loss_weights"]),
        sampler=sampler_from_card(SamplerSettings, values["sampler"]),
    )


def crysldm(
    dataset: str,
    preset: str = "cpu",
    steps: int | None = None,
    weights: Path | None = None,
    variant: Variant = DEFAULT,
) -> DiffusionGenerator:
    """CrysLDM with the weights trained for a data set. Algorithm 2 with T = 100, or `steps` strided DDIM steps."""
    return DiffusionGenerator("crysldm", CrysLDM, config_from_card, dataset, preset, steps, weights, variant)


def crysldm_as_written(
    dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
) -> DiffusionGenerator:
    """CrysLDM's weights with Algorithm 2 as the paper writes it: its corrector step (step_size 1e-3) and no bounds."""
    return crysldm(dataset, preset, steps, weights, AS_WRITTEN)


def crysldm_fast(
    dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
) -> DiffusionGenerator:
    """CrysLDM's weights in 24 strided ancestral steps of one evaluation: no corrector."""
    return crysldm(dataset, preset, steps, weights, FAST)


def crysldm_guided(
    dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
) -> DiffusionGenerator:
    """`crysldm_fast` with types guided by context: away from what each atom would be alone."""
    return crysldm(dataset, preset, steps, weights, GUIDED)


def crysldm_autoguided(
    dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
) -> DiffusionGenerator:
    """`crysldm_fast` guided by a weak network: away from what a small, hardly trained one predicts."""
    return crysldm(dataset, preset, steps, weights, AUTOGUIDED)
