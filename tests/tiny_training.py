"""Trainings that take a second: tiny models of every kind on ten random crystals."""

from dataclasses import replace

import torch

from bench.interfaces import TrainingPlan
from models.baselines.cdvae.autoencoder import CDVAE, CDVAEConfig
from models.baselines.cdvae.encoder import EncoderConfig
from models.baselines.cdvae.gemnet import GemNetConfig
from models.baselines.cdvae.langevin import LangevinSettings
from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.baselines.diffcsp.structure_prediction import StructurePrediction
from models.composition_first.composition_model import CompositionConfig, CompositionModel
from models.composition_first.transformer import TransformerConfig
from models.crysldm.autoencoder import AutoencoderConfig
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.crystal_draft.crystal_draft import CrystalDraft, CrystalDraftConfig
from models.crystal_draft.transformer import CrystalTransformerConfig
from models.cspnet import CSPNetConfig
from models.presets import PRESETS, Preset, StageConfig
from models.training.run import train
from tests.random_crystals import random_crystals

NET = CSPNetConfig(hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4)
STAGE = StageConfig("diffusion", epochs=4, batch_size=4, precision="32-true", validate_every=2, sample_every=2)
CDVAE_CONFIG = CDVAEConfig(
    latent_dim=8,
    hidden_dim=8,
    max_atoms=4,
    encoder=EncoderConfig(8, 1, int_emb_size=4, basis_emb_size=4, out_emb_channels=8, num_spherical=3, num_radial=3),
    decoder=GemNetConfig(hidden_dim=8, latent_dim=8, num_blocks=1, emb_size_trip=4, num_radial=8),
    num_levels=4,
    sampler=LangevinSettings(steps_per_level=2),
)


def crystals(seed, sizes=(2, 3, 2, 3, 3, 2, 2, 3, 2, 2)):
    """Random crystals of these numbers of atoms, in cells of about 4 A."""
    return random_crystals(sizes, seed, skew=0.3)


def tiny_preset(name):
    """A preset whose training takes a second, DiffCSP's with Muon where this torch has it."""
    if name.endswith("-posterior"):
        of_paper = tiny_preset(name.removesuffix("-posterior"))
        config = of_paper.config
        network = replace(config.network, type_posterior=100)
        config = replace(config, network=network, loss_weights=(*config.loss_weights, 1.0))
        return replace(of_paper, config=config)
    if name == "diffcsp":
        stage = replace(STAGE, optimiser="muon") if hasattr(torch.optim, "Muon") else STAGE
        return Preset(DiffCSP, DiffCSPConfig(network=NET, num_steps=10), (stage,))
    if name == "diffcsp-csp":
        return Preset(StructurePrediction, DiffCSPConfig(network=NET, num_steps=10), (STAGE,))
    if name == "composition-first":
        network = TransformerConfig(hidden_dim=8, num_layers=1, num_heads=2, max_atoms=4)
        return Preset(CompositionModel, CompositionConfig(network=network), (STAGE,))
    if name == "crystal-draft":
        sizes = CrystalTransformerConfig(hidden_dim=8, num_layers=1, num_heads=2, max_atoms=4)
        return Preset(CrystalDraft, CrystalDraftConfig(network=sizes), (STAGE,))
    if name == "cdvae":
        return Preset(CDVAE, CDVAE_CONFIG, (STAGE,))
    config = CrysLDMConfig(
        autoencoder=AutoencoderConfig(latent_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2),
        network=replace(NET, node_dim=3),
        num_steps=10,
    )
    vae = StageConfig("vae", epochs=2, batch_size=4, precision="32-true", validate_every=2)
    return Preset(CrysLDM, config, (vae, STAGE))


def give_preset(monkeypatch, name, preset):
    """Makes it the preset of that model, whatever the data set and the size."""
    monkeypatch.setitem(PRESETS, name, lambda dataset, size: preset)


def run(model, out, score=None, progress=None, **options):
    """Trains in a folder and gives the weights file."""
    plan = TrainingPlan(model, "perov5", out=out, device="cpu", compile_network=False, **options)
    return train(plan, score=score, progress=progress)


def checkpoint_of(out, stage="diffusion"):
    """What Lightning saved of a stage."""
    return torch.load(out / f"{stage}.ckpt", weights_only=False)


class Clock:
    """A clock that goes on by a second whenever it is read: twice a batch."""

    def __init__(self):
        self.readings = 0.0

    def __call__(self):
        self.readings += 1.0
        return self.readings
