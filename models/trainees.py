"""What training asks of each model: fresh weights, what a stage trains and by which losses, and crystals meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import SampleBatch
from models.baselines.cdvae.autoencoder import CDVAE, CDVAEConfig
from models.baselines.cdvae.generator import sample_crystals as sample_cdvae
from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.crysldm.autoencoder import Autoencoder
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.dense import DenseBatch
from models.diffusion import Noise, SeededNoise
from models.generation import sample_crystals, usual_settings

Model = CrysLDM | DiffCSP | CDVAE
ModelConfig = CrysLDMConfig | DiffCSPConfig | CDVAEConfig


def build(config: ModelConfig, seed: int) -> Model:
    """The model of a configuration, with fresh weights that the seed fixes; global random state is left alone."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        if isinstance(config, CDVAEConfig):
            return CDVAE(config)
        return CrysLDM(config) if isinstance(config, CrysLDMConfig) else DiffCSP(config)


def fit_statistics(model: Model, train: Sequence[DenseBatch]) -> None:
    """What a model must know of the training data before its first step."""
    if isinstance(model, CDVAE):
        model.fit_lattice_scaler(train)


def finish_stage(model: Model, stage: str, train: list[DenseBatch], seed: int) -> list[DenseBatch]:
    """What follows a stage that is complete, the same again when a run is resumed; gives what the next one sees."""
    if not isinstance(model, CrysLDM) or stage != "vae":
        return train
    # Only now do the latents mean anything.
    encoded = [model.with_posterior(bucket) for bucket in train]
    model.standardise_latents(encoded, SeededNoise.from_seed(seed, "cpu"))
    return [*encoded]


def as_seen(model: Model, stage: str, buckets: list[DenseBatch]) -> list[DenseBatch]:
    """The crystals as a stage sees them: with their posteriors, computed once, where CrysLDM's encoder is frozen."""
    if isinstance(model, CrysLDM) and stage != "vae":
        return [model.with_posterior(bucket) for bucket in buckets]
    return buckets


def trained_part(model: Model, stage: str) -> nn.Module:
    """The part of a model that a stage trains: all of a CDVAE."""
    if isinstance(model, CDVAE):
        return model
    return model.autoencoder if isinstance(model, CrysLDM) and stage == "vae" else model.network


def compiled_parts(part: nn.Module) -> list[nn.Module]:
    """The modules of a trained part worth compiling. CDVAE's graph has another number of edges in every batch."""
    if isinstance(part, CDVAE):
        return []
    return [part.encoder, part.decoder] if isinstance(part, Autoencoder) else [part]


def losses(model: Model, stage: str, batch: DenseBatch, noise: Noise, progress: float) -> dict[str, Tensor]:
    """The losses of a stage by name, "loss" their sum. progress: share of the stage's epochs that are done."""
    if isinstance(model, CDVAE):
        return model.losses(batch, noise, teacher_forcing=progress < model.config.teacher_forcing)
    return trained_part(model, stage).losses(batch, noise) if stage == "vae" else model.losses(batch, noise)  # type: ignore[operator]


def sample(
    model: Model, num_atoms_probabilities: Any, num_crystals: int, seed: int, max_steps: int, device: str
) -> SampleBatch:
    """Crystals of a half-trained model as `NAME@STEPS` samples them, in at most `max_steps` steps.

    CDVAE decides itself how many atoms they have.
    """
    steps = min(max_steps, model.config.num_steps)
    if isinstance(model, CDVAE):
        return sample_cdvae(model, num_crystals, seed, steps, device)
    config: Any = model.config
    model.config = replace(config, sampler=usual_settings(config.sampler, steps < config.num_steps))
    try:
        return sample_crystals(model, num_atoms_probabilities, num_crystals, seed, steps, device)
    finally:
        model.config = config
