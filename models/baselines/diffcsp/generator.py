"""DiffCSP as a generator of the harness, and its named samplers; `bench models` prints the sentence below each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.baselines.diffcsp.predictor import PredictorFactory
from models.baselines.diffcsp.sampler import SamplerSettings
from models.baselines.diffcsp.structure_prediction import StructurePrediction
from models.baselines.diffcsp.template_start import known_templates
from models.cspnet import CSPNetConfig
from models.generation import GeneratorFactory, sampler_from_card
from models.guidance import Guidance


def config_from_card(values: dict[str, Any]) -> DiffCSPConfig:
    """The configuration written in a weights card."""
    return DiffCSPConfig(
        network=CSPNetConfig(**values["network"]),
        num_steps=values["num_steps"],
        sigma_range=tuple(values["sigma_range"]),
        loss_weights=tuple(values["loss_weights"]),
        sampler=sampler_from_card(SamplerSettings, values["sampler"]),
    )


diffcsp = GeneratorFactory("diffcsp", DiffCSP, config_from_card)
"""DiffCSP, a baseline: diffusion of cell, places and elements themselves, 1000 steps of two network evaluations."""

diffcsp_fast = diffcsp.with_sampler("-fast", steps=48, corrector=False)
"""DiffCSP made quicker: 48 steps of one network evaluation each."""

diffcsp_guided = diffcsp_fast.with_sampler("-guided", steps=48, guidance=Guidance())
"""DiffCSP in 48 steps, its choice of elements sharpened by what the other atoms say: at no extra cost."""

diffcsp_autoguided = diffcsp_fast.with_sampler(
    "-autoguided", steps=48, guidance=Guidance(1.5, (0.3, 0.99), "weak network")
)
"""DiffCSP in 48 steps, each led away from what a smaller, hardly trained network predicts."""

diffcsp_posterior = replace(diffcsp, name="diffcsp-posterior")
"""DiffCSP with another output for elements, by which the atoms of a crystal agree: 1000 steps of two evaluations."""

diffcsp_posterior_fast = replace(diffcsp_fast, name="diffcsp-posterior")
"""DiffCSP whose elements agree, made quicker: 48 steps of one network evaluation each."""

diffcsp_posterior_guided = replace(diffcsp_guided, name="diffcsp-posterior")
"""DiffCSP whose elements agree, in 48 steps, their choice sharpened by what the other atoms say."""

diffcsp_posterior_autoguided = replace(diffcsp_autoguided, name="diffcsp-posterior")
"""DiffCSP whose elements agree, in 48 steps, led away from what a smaller, hardly trained network predicts."""

structures = GeneratorFactory("diffcsp-csp", StructurePrediction, config_from_card)
structures_fast = structures.with_sampler("-fast", steps=48, corrector=False)

structures_from_templates = structures.with_sampler("-template", steps=8, corrector=False)

diffcsp_csp = PredictorFactory(structures)
"""DiffCSP's crystal structure prediction: cell and places for compositions that are given."""

diffcsp_csp_fast = PredictorFactory(structures_fast)
"""DiffCSP's crystal structure prediction made quicker: 48 steps of one network evaluation each."""

diffcsp_csp_template = PredictorFactory(structures_from_templates, known_templates)
"""DiffCSP's network on the nearest training crystal with its elements exchanged: some noise, then 8 steps."""
