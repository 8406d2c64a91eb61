"""Our models as `bench learn` trains them: the stages, optimiser and losses of `bench train`, under the device clock.

What differs from `bench train`, for every model: the last stage has no end but the budget's, so its learning rate does
not decay; the decay of the averaged weights rises as (1 + n) / (10 + n) over the first steps n, so that an early
snapshot is not an average over the first weights; stages before the last one take at most a quarter of the budget;
nothing is compiled, which would be minutes outside the clock. One step that changes nothing comes first, not timed:
libraries make ready what they need at it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.atomic import replacement
from bench.datasets import load_split
from bench.interfaces import TrainingOrder, TrainingTimer
from models.dense import pack
from models.presets import Preset, StageConfig
from models.presets import preset as find_preset
from models.training.card import training_card
from models.training.checkpoints import train_stage
from models.training.interruption import Interruption
from models.training.optimiser import check_optimiser
from models.training.stage import Stage
from models.weights import save_weights

ENDLESS_EPOCHS = 10**7
EARLIER_STAGES_SHARE = 0.25  # of the budget
WEIGHTS = "weights.safetensors"


class Watch(L.Callback):
    """Times every step of a stage, and ends it when its time is spent.

    until_s: device seconds of the training at which this stage ends. save: writes the weights of a state dict of the
    stage into a folder.
    """

    def __init__(
        self, timer: TrainingTimer, until_s: float, save: Callable[[dict[str, Any], Path], None], scratch: Path
    ) -> None:
        self.timer, self.until_s, self._save, self._scratch = timer, until_s, save, scratch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One step that changes nothing."""
        assert isinstance(pl_module, Stage)
        batch = next(iter(pl_module.train_dataloader())).to(pl_module.device)
        with trainer.precision_plugin.forward_context():
            loss = pl_module.losses(batch, [pl_module.seed, 3])["loss"]
        loss.backward()
        pl_module.zero_grad(set_to_none=True)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is on the device."""
        self.timer.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The optimiser has stepped, and the averaged weights have followed."""

        def save(folder: Path) -> None:
            with replacement(self._scratch) as partial:
                trainer.save_checkpoint(partial)
            self._save(torch.load(self._scratch, map_location="cpu", weights_only=False)["state_dict"], folder)
            self._scratch.unlink()

        if not self.timer.stop(save) or self.ended:
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning would validate before it stops

    @property
    def ended(self) -> bool:
        """Whether the time of the stage is spent."""
        return self.timer.seconds >= self.until_s

    def state_dict(self) -> dict[str, Any]:
        """The timer's."""
        return {"timer": self.timer.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The timer goes on from there."""
        self.timer.restore(state_dict["timer"])


@dataclass(frozen=True)
class PresetTraining:
    """A model with presets as a `bench.interfaces.Trainable`.

    model: whose presets, where `name` is another's. change: what another name has otherwise in them.
    """

    name: str
    sampler: str
    few_steps: str | None
    model: str | None = None
    change: Callable[[Preset], Preset] | None = None

    def train(self, order: TrainingOrder, timer: TrainingTimer) -> None:
        """All stages in order, the last one until the budget is spent. ValueError as of `models.training.run.train`."""
        of_model = self.model or self.name
        preset = find_preset(of_model, order.dataset, order.preset)
        if self.change is not None:
            preset = self.change(preset)
        stages = stages_of(preset, order.rate_factor)
        for stage in stages:
            check_optimiser(stage.optimiser)
        crystals = {split: pack(load_split(order.dataset, split)) for split in ("train", "val")}
        torch.set_num_threads(order.threads)
        order.folder.mkdir(parents=True, exist_ok=True)
        model: Any = preset.build(order.seed)
        card = training_card(
            of_model,
            order.dataset,
            preset.config,
            stages,
            model,
            sum(map(len, crystals["train"])),
            preset=order.preset,
            seed=order.seed,
            threads=order.threads,
            device=order.device,
            finished=False,
        )

        def save(state_dict: dict[str, Any], folder: Path) -> None:
            save_weights(folder / WEIGHTS, state_dict, {**card, "training_seconds": timer.state()["seconds"]})

        def save_stage(state_dict: dict[str, Any], folder: Path) -> None:
            own = {key.removeprefix("model."): v for key, v in state_dict.items() if key.startswith("model.")}
            save(own, folder)

        def save_now(folder: Path) -> None:
            save(model.state_dict(), folder)

        for number, stage in enumerate(stages):
            if timer.over:
                return
            # What a stage computes once from the stage before it is training; the first one has only its data.
            counts = number > 0 and not (order.folder / f"{stage.name}.ckpt").exists()
            if counts:
                timer.start()
            train = model.stage_input(stage.name, crystals["train"])
            model.fit_statistics(stage.name, train, order.seed)
            if counts and not timer.stop(save_now):
                return
            val = model.stage_input(stage.name, crystals["val"])
            module = Stage(model, stage, train, val, order.seed * 10 + number, None)
            until_s = timer.budget_s * (1.0 if stage is stages[-1] else EARLIER_STAGES_SHARE)
            watch = Watch(timer, until_s, save_stage, order.folder / "snapshot.scratch")
            if take_ended(module, watch, order.folder / f"{stage.name}.ckpt"):
                continue
            average = rising_average(stage.ema_decay)
            how = order.device, False, Interruption()
            train_stage(module, order.folder, None, *how, watch=watch, average=average)
            model.cpu()


def take_ended(module: Stage, watch: Watch, checkpoint: Path) -> bool:
    """Whether a stage came to the end of its time in an earlier call; then takes its weights and the timer's state."""
    if not checkpoint.exists():
        return False
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    before = watch.timer.state()
    watch.load_state_dict(saved["callbacks"][watch.state_key])
    if watch.ended:
        module.load_state_dict(saved["state_dict"])
        return True
    watch.timer.restore(before)  # until Lightning takes up the checkpoint
    return False


def stages_of(preset: Preset, rate_factor: float) -> tuple[StageConfig, ...]:
    """The preset's stages; the last one has no end, and so no decay of the learning rate."""
    *before, last = (replace(s, learning_rate=s.learning_rate * rate_factor) for s in preset.stages)
    schedule = last.schedule if last.schedule == "plateau" else "hold"
    return (*before, replace(last, epochs=ENDLESS_EPOCHS, schedule=schedule, sample_every=ENDLESS_EPOCHS))


def rising_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """How averaged weights follow: by an exponential average whose decay rises to `decay`."""

    def follow(averaged: Any, current: Any, num_averaged: Any) -> None:
        n = float(num_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, num_averaged)

    return follow


def crysldm() -> PresetTraining:
    """CrysLDM: first its autoencoder, all of the preset's epochs, then the latent diffusion."""
    return PresetTraining("crysldm", "crysldm", "crysldm-fast")


def diffcsp() -> PresetTraining:
    """DiffCSP."""
    return PresetTraining("diffcsp", "diffcsp", "diffcsp-fast")


def cdvae() -> PresetTraining:
    """CDVAE; its sampler of few steps shares 100 Langevin steps among the noise levels."""
    return PresetTraining("cdvae", "cdvae", "cdvae@100")
