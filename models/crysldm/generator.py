"""CrysLDM as a generator of the harness, and its named samplers; `bench models` prints the sentence below each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models.crysldm.autoencoder import AutoencoderConfig
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.crysldm.sampler import SamplerSettings
from models.cspnet import CSPNetConfig
from models.generation import GeneratorFactory, sampler_from_card
from models.guidance import Guidance


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


crysldm = GeneratorFactory("crysldm", CrysLDM, config_from_card)
"""CrysLDM, the latent diffusion model of the paper: 100 steps of two network evaluations each."""

crysldm_as_written = crysldm.with_sampler("-as-written", as_published=True, min_volume=None)
"""CrysLDM with the sampling algorithm as the paper prints it, without the remedies of this project."""

# Ancestral steps, not DDIM: their noise repairs what the few steps of the coordinates get wrong (docs/models.md).
crysldm_fast = crysldm.with_sampler("-fast", steps=24, corrector="none", latent_step="ancestral")
"""CrysLDM made quicker: 24 steps of one network evaluation each."""

# On MP-20 more weight and more steps give fewer elements to a crystal, but fewer valid compositions (docs/models.md).
crysldm_guided = crysldm_fast.with_sampler("-guided", steps=16, guidance=Guidance(0.7))
"""CrysLDM in 16 steps, its choice of elements sharpened by what the other atoms say: at no extra cost."""

crysldm_autoguided = crysldm_fast.with_sampler(
    "-autoguided", steps=24, guidance=Guidance(3.0, (0.2, 0.98), "weak network")
)
"""CrysLDM in 24 steps, each led away from what a smaller, hardly trained network predicts."""

# The papers' heads predict noise by one linear layer; these start from what noisy codes say of types in closed form.
crysldm_posterior = replace(crysldm, name="crysldm-posterior")
"""CrysLDM with another output for elements, by which the atoms of a crystal agree: 100 steps of two evaluations."""

crysldm_posterior_fast = replace(crysldm_fast, name="crysldm-posterior")
"""CrysLDM whose elements agree, made quicker: 24 steps of one network evaluation each."""

crysldm_posterior_guided = replace(crysldm_guided, name="crysldm-posterior")
"""CrysLDM whose elements agree, in 16 steps, their choice sharpened by what the other atoms say."""

crysldm_posterior_autoguided = replace(crysldm_autoguided, name="crysldm-posterior")
"""CrysLDM whose elements agree, in 24 steps, led away from what a smaller, hardly trained network predicts."""
