"""A fourth model that can be trained: cubes whose edge it learns. It stands for a model that a user adds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.crystals import Crystals
from bench.interfaces import SampleBatch
from models.presets import Preset, StageConfig
from models.weights import load_into, read_weights


@dataclass(frozen=True)
class ToyConfig:
    first_edge: float = 1.0


class Toy(nn.Module):
    """One atom of silicon in a cube; the cube's volume is that of an atom in the training crystals."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.edge = nn.Parameter(torch.tensor(config.first_edge))
        self.register_buffer("crystals_seen", torch.zeros(()))

    def stage_input(self, stage, crystals):
        return crystals

    def fit_statistics(self, stage, train, seed):
        self.crystals_seen.fill_(sum(map(len, train)))

    def trained_part(self, stage):
        return self

    def compiled_parts(self, stage):
        return []

    def stage_losses(self, stage, batch, noise, progress):
        edges = (torch.linalg.det(batch.lattices).abs() / batch.num_atoms) ** (1 / 3)
        return {"loss": (self.edge - edges).square().mean()}

    def sample_in_training(self, num_crystals, seed, max_steps, num_atoms_probabilities):
        types = np.random.default_rng(seed).integers(1, 80, num_crystals)
        lattices = np.tile(float(self.edge.detach()) * np.eye(3), (num_crystals, 1, 1))
        crystals = Crystals(np.ones(num_crystals, int), types, np.zeros((num_crystals, 3)), lattices)
        return SampleBatch(crystals, steps=1, network_evaluations=np.zeros(num_crystals))


def toy_preset(dataset, name):
    stage = StageConfig("toy", epochs=60, batch_size=4, learning_rate=0.1, precision="32-true", ema_decay=0.5)
    return Preset(Toy, ToyConfig(), (stage,))


class ToyGenerator:
    """Its generator, as `bench.registry` names it."""

    name = "toy"

    def __init__(self, dataset, preset="cpu", steps=None, weights: Path | None = None):
        self.weights = weights

    def load(self, device="cpu"):
        state_dict, card = read_weights(self.weights)
        self.model = Toy(ToyConfig(**card["config"]))
        load_into(self.model, state_dict, self.weights)

    def sample(self, num_crystals, seed):
        return self.model.sample_in_training(num_crystals, seed, 1, None)
