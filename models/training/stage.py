"""One stage of training as Lightning sees it: batches, losses, their means by epoch, and the optimiser's schedule.

Every random number of a step is a function of (seed, stage, step), every order of crystals of (seed, stage, epoch), so
a run that stopped at a checkpoint and went on ends with the same weights as one that never stopped.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from bench.arrays import FloatArray
from bench.crystals import Crystals
from models.dense import DenseBatch
from models.diffusion import SeededNoise, torch_seed
from models.presets import StageConfig
from models.trainable import TrainableNetwork
from models.training.optimiser import make_optimiser

ScoreSamples = Callable[[Crystals], dict[str, float]]

PLATEAU_EPOCHS = 30


@dataclass(frozen=True)
class SampledMetrics:
    """Metrics of crystals that a half-trained model samples.

    steps: at most, so that DiffCSP's 1000 do not take over the training time.
    """

    score: ScoreSamples
    num_atoms_probabilities: FloatArray
    seed: int
    num_crystals: int = 100
    steps: int = 100

    def __call__(self, model: TrainableNetwork) -> dict[str, float]:
        """Samples with the current weights and scores."""
        batch = model.sample_in_training(self.num_crystals, self.seed, self.steps, self.num_atoms_probabilities)
        return {"generated": len(batch.crystals) / batch.requested, **self.score(batch.crystals)}


class EpochBatches:
    """The batches of one epoch, crystals of one N in each, in an order that (seed, epoch) fixes.

    It knows how many were taken and can go on from there, which Lightning asks of it at a checkpoint.
    """

    def __init__(self, buckets: list[DenseBatch], stage: StageConfig, seed: int | None, epoch: int) -> None:
        self.buckets = buckets
        self.plan: list[tuple[int, Tensor]] = []
        self.taken = 0
        rng = np.random.default_rng(None if seed is None else [seed, epoch])
        for k, bucket in enumerate(buckets):
            size = max(1, min(stage.batch_size, stage.max_pairs // bucket.num_atoms**2))
            order = np.arange(len(bucket)) if seed is None else rng.permutation(len(bucket))
            # Equal parts: a last batch of 3 crystals would weigh as much as one of 128.
            parts = np.array_split(order, max(1, round(len(bucket) / size)))
            self.plan.extend((k, torch.from_numpy(part)) for part in parts)
        if seed is not None:
            self.plan = [self.plan[i] for i in rng.permutation(len(self.plan))]

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[DenseBatch]:
        """Those not taken yet; all of them once all were."""
        self.taken %= len(self)
        while self.taken < len(self):
            bucket, crystals = self.plan[self.taken]
            self.taken += 1
            yield self.buckets[bucket].take(crystals)

    def state_dict(self) -> dict[str, int]:
        """How many were taken."""
        return {"taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on from there."""
        self.taken = state_dict["taken"]


class Stage(L.LightningModule):
    """One stage of training as Lightning sees it: the loss of a part of the model, its optimiser and its data."""

    def __init__(
        self,
        model: TrainableNetwork,
        config: StageConfig,
        train: list[DenseBatch],
        val: list[DenseBatch],
        seed: int,
        score: SampledMetrics | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.train_buckets, self.val_buckets = train, val
        self.seed = seed
        self.score = score
        self.trained = model.trained_part(config.name)
        self.epoch_sums: dict[str, Tensor | float] = {}
        self.epoch_crystals = 0
        self.steps_per_epoch = len(EpochBatches(train, config, seed, 0))
        self.requires_grad_(False)
        self.trained.requires_grad_(True)

    def losses(self, batch: DenseBatch, noise_seed: list[int]) -> dict[str, Tensor]:
        """The stage's losses with noise that the seed fixes."""
        noise = SeededNoise.from_seed(torch_seed(noise_seed), self.device)
        progress = self.current_epoch / self.config.epochs
        return self.model.stage_losses(self.config.name, batch, noise, progress)

    def train_dataloader(self) -> EpochBatches:
        """This epoch's batches; the trainer asks anew each epoch."""
        return EpochBatches(self.train_buckets, self.config, self.seed, self.trainer.current_epoch)

    def val_dataloader(self) -> EpochBatches:
        """The validation split, always in one order."""
        return EpochBatches(self.val_buckets, self.config, None, 0)

    def training_step(self, batch: DenseBatch, index: int) -> Tensor:
        """One batch; adds its losses to those of the epoch."""
        losses = self.losses(batch, [self.seed, 1, self.global_step])
        for name, value in losses.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + len(batch) * value.detach().double()
        self.epoch_crystals += len(batch)
        return losses["loss"]

    def log_epoch(self) -> None:
        """Logs the mean losses of the epoch that is complete."""
        self.log_dict({f"train_{name}": total / self.epoch_crystals for name, total in self.epoch_sums.items()})
        self.epoch_sums, self.epoch_crystals = {}, 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what the epoch has of its losses: it may go on in another call."""
        checkpoint["epoch_losses"] = self.epoch_sums, self.epoch_crystals

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on adding."""
        self.epoch_sums, self.epoch_crystals = checkpoint.get("epoch_losses", ({}, 0))

    def validation_step(self, batch: DenseBatch, index: int) -> None:
        """Validation losses with the averaged weights and the same noise every time."""
        losses = self.losses(batch, [self.seed, 2, index])
        self.log_dict({f"val_{k}": v for k, v in losses.items()}, batch_size=len(batch))

    def on_validation_epoch_start(self) -> None:
        """Metrics of real samples, every `sample_every` epochs: now, since the averaged weights are gone at the end."""
        if self.score is not None and (self.current_epoch + 1) % self.config.sample_every == 0:
            self.log_dict({f"sample_{k}": v for k, v in self.score(self.model).items()})

    def on_validation_end(self) -> None:
        """Tells "plateau" the validation loss: by itself Lightning would do so after the checkpoint was written."""
        if self.config.schedule == "plateau":
            plateau: Any = self.lr_schedulers()
            plateau.step(self.trainer.callback_metrics["val_loss"])

    def configure_optimizers(self) -> Any:
        """The stage's optimiser with its schedule."""
        # Fused: a tenth of a step is Adam's otherwise. Lightning cannot clip gradients beside it under autocast.
        fused = self.config.precision == "32-true"
        optimizer = make_optimiser(self.trained, self.config.optimiser, self.config.learning_rate, fused)
        if self.config.schedule == "plateau":
            patience = PLATEAU_EPOCHS // self.config.validate_every
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.6, patience=patience, min_lr=1e-4)
            # Lightning keeps its state; `on_validation_end` steps it.
            return [optimizer], [{"scheduler": plateau, "monitor": "val_loss", "frequency": sys.maxsize}]
        total = self.steps_per_epoch * self.config.epochs
        factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(self.config, step, total))
        return [optimizer], [{"scheduler": factor, "interval": "step"}]


def rate_factor(config: StageConfig, step: int, total: int) -> float:
    """What the learning rate is multiplied by at a step of `total`: `StageConfig.schedule` and `warmup_steps`."""
    rise = min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "hold":
        return rise * min(1.0, 0.01 + 0.99 * max(0.0, total - step) / (0.3 * total))
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))))
