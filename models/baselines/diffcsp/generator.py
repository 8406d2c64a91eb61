"""DiffCSP as a generator of the harness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.baselines.diffcsp.sampler import SamplerSettings
from models.cspnet import CSPNetConfig
from models.generation import DEFAULT, DiffusionGenerator, Variant, guided, sampler_from_card, usual_settings
from models.guidance import Guidance

FAST = Variant("-fast", lambda card, strided: replace(usual_settings(card, strided), corrector=False), steps=48)
GUIDED = guided(FAST, "-guided", Guidance(), steps=48)
AUTOGUIDED = guided(FAST, "-autoguided", Guidance(1.5, (0.3, 0.99), "weak network"), steps=48)


def config_from_card(values: dict[str, Any]) -> DiffCSPConfig:
    """The configuration written in a weights card."""
    return DiffCSPConfig(
        network=CSPNetConfig(**values["network"]),
        num_steps=values["num_steps"],
        sigma_range=tuple(values["sigma_range"]),
        loss_weights=tuple(values["loss_weights"]),
        sampler=sampler_from_card(SamplerSettings, values["sampler"]),
    )


def diffcsp(
    dataset: str,
    preset: str = "cpu",
    steps: int | None = None,
    weights: Path | None = None,
    variant: Variant = DEFAULT,
) -> DiffusionGenerator:
    """DiffCSP with the weights trained for a data set. T = 1000 predictor-corrector steps, or `steps` strided ones."""
    return DiffusionGenerator("diffcsp", DiffCSP, config_from_card, dataset, preset, steps, weights, variant)


def diffcsp_fast(
    dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
) -> DiffusionGenerator:
    """DiffCSP's weights in 48 strided ancestral steps of one evaluation: no corrector."""
    return diffcsp(dataset, preset, steps, weights, FAST)


def diffcsp_guided(
    dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
) -> DiffusionGenerator:
    """`diffcsp_fast` with types guided by context: away from what each atom would be alone."""
    return diffcsp(dataset, preset, steps, weights, GUIDED)


def diffcsp_autoguided(
    dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
) -> DiffusionGenerator:
    """`diffcsp_fast` guided by a weak network: away from what a small, hardly trained one predicts."""
    return diffcsp(dataset, preset, steps, weights, AUTOGUIDED)
