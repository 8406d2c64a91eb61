"""What a model is to `bench train`: the seam between training and CrysLDM, DiffCSP, CDVAE or a model of your own."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from bench.arrays import FloatArray
from bench.interfaces import SampleBatch
from models.dense import DenseBatch
from models.diffusion import Noise


class TrainableNetwork(Protocol):
    """A `torch.nn.Module` that can be trained, stage by stage. Its stages are those of its preset.

    config: a dataclass of plain values; the weights' card keeps it. Crystals come as one dense batch per size N.
    """

    config: Any

    def stage_input(self, stage: str, crystals: list[DenseBatch]) -> list[DenseBatch]:
        """The crystals as a stage takes them, with what it would otherwise compute again in every epoch."""

    def fit_statistics(self, stage: str, train: list[DenseBatch], seed: int) -> None:
        """Sets buffers from the training crystals (of `stage_input`), before a stage that does not start from weights.

        The same again when a run goes on: a function of the crystals, the weights and the seed.
        """

    def trained_part(self, stage: str) -> nn.Module:
        """The part whose parameters the stage trains; all others are frozen."""

    def compiled_parts(self, stage: str) -> list[nn.Module]:
        """The modules that torch.compile is worth its time for; perhaps none."""

    def stage_losses(self, stage: str, batch: DenseBatch, noise: Noise, progress: float) -> dict[str, Tensor]:
        """The losses of a batch by name; "loss" is what is minimised, the others are logged.

        noise: the only source of random numbers. progress: share of the stage's epochs that are done.
        """

    def sample_in_training(
        self, num_crystals: int, seed: int, max_steps: int, num_atoms_probabilities: FloatArray
    ) -> SampleBatch:
        """Crystals of the weights as they are, in at most `max_steps` steps.

        num_atoms_probabilities: (N_max + 1,), p(N) of the training split, for models that do not predict N.
        """
