"""Training of one stage by Lightning, from its checkpoint if there is one, until it is done or the time is up."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.atomic import replacement
from models.training.interruption import Interruption
from models.training.log import call_logs
from models.training.stage import Stage

# (label, total, unit, done) -> a context that gives what is called with the epochs done and the crystals in them.
Progress = Callable[[str, float, str, float], AbstractContextManager[Callable[[float, float], None]]]

SAVE_EVERY_S = 60.0  # what a killed training loses at most

now = time.monotonic


class Checkpoints(L.Callback):
    """Saves after a batch when the time is up (then it stops), or else every minute, and at the last epoch.

    interruption: ends it as if the time were up. advance: told of the epochs and crystals that are done, at the end of
    each epoch and at a stop.
    """

    def __init__(
        self,
        path: Path,
        deadline: float | None,
        interruption: Interruption,
        advance: Callable[[float, float], None],
    ) -> None:
        self.path, self.deadline, self.interruption, self.advance = path, deadline, interruption, advance
        self.told_crystals = 0  # of the epoch that is not complete
        self.seconds_before = 0.0
        self.within_epoch = False  # what is saved, or stopped at, is no whole epoch
        self.started = self.saved = now()

    @property
    def seconds(self) -> float:
        """Training seconds of this stage, earlier calls included."""
        return self.seconds_before + now() - self.started

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when due; the last batch of an epoch is left to `on_train_epoch_end`, after the validation."""
        self.within_epoch = batch_idx + 1 < trainer.num_training_batches
        if self.within_epoch:
            self._save_when_due(trainer)
            if trainer.should_stop:
                trainer.limit_val_batches = 0  # Lightning would validate before it stops
                self._tell(pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves when due. Lightning calls it at a stop within an epoch too."""
        if self.within_epoch:
            return
        assert isinstance(pl_module, Stage)
        self._tell(pl_module)
        self.told_crystals = 0
        pl_module.log_epoch()
        self._save_when_due(trainer, last=trainer.current_epoch + 1 == trainer.max_epochs)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What an earlier call did of the epoch was told then."""
        assert isinstance(pl_module, Stage)
        self.told_crystals = pl_module.epoch_crystals

    def _tell(self, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Stage)
        crystals = pl_module.epoch_crystals - self.told_crystals
        self.advance(crystals / sum(map(len, pl_module.train_buckets)), crystals)

    def _save_when_due(self, trainer: L.Trainer, last: bool = False) -> None:
        over = trainer.should_stop or self.interruption.asked or (self.deadline is not None and now() >= self.deadline)
        if over or last or now() - self.saved >= SAVE_EVERY_S:
            with replacement(self.path) as partial:
                trainer.save_checkpoint(partial)
            self.saved = now()
        trainer.should_stop = trainer.should_stop or over

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent so far, and whether the epoch is not complete."""
        return {"seconds": self.seconds, "within_epoch": self.within_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self.seconds_before = state_dict["seconds"]


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Whole epochs in a checkpoint. Those of earlier versions hold nothing else."""
    return int(checkpoint["epoch"]) + (not checkpoint["callbacks"]["Checkpoints"].get("within_epoch", False))


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's announcements, among them one at every checkpoint, and warnings of what is meant to be so."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own call
            # torch.compile traces through the cache of pairs, a pure function of N.
            warnings.filterwarnings("ignore", message=".*functools.lru_cache.*")
            yield
    finally:
        logger.setLevel(level)


def train_stage(
    module: Stage,
    out: Path,
    deadline: float | None,
    device: str,
    compile_network: bool,
    interruption: Interruption,
    progress: Progress | None = None,
    watch: L.Callback | None = None,
    average: Callable[[Any, Any, Any], None] | None = None,
) -> tuple[bool, float]:
    """Trains one stage from its checkpoint, if there is one; leaves the averaged weights in the module.

    watch: is told of every batch after the weights were averaged, and its state is kept in the checkpoint. average:
    how averaged weights follow, in place of the stage's constant decay.

    Returns whether all epochs are done, and the seconds spent on the stage in all calls. KeyboardInterrupt where an
    interruption ended it.
    """
    stage = module.config
    checkpoint = out / f"{stage.name}.ckpt"
    done: float = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
        done = epochs_done(saved) + saved.get("epoch_losses", ({}, 0))[1] / sum(map(len, module.train_buckets))
        if done >= stage.epochs:
            module.load_state_dict(saved["state_dict"])
            if watch is not None:
                watch.load_state_dict(saved["callbacks"][watch.state_key])
            return True, float(saved["callbacks"]["Checkpoints"]["seconds"])
    if compile_network:
        for part in module.model.compiled_parts(stage.name):
            part.compile(dynamic=len(module.train_buckets) > 2)
    progress = progress or (lambda *stage: nullcontext(lambda epochs, crystals: None))
    with quiet_lightning(), progress(f"training {stage.name}", stage.epochs, "epochs", done) as advance:
        checkpoints = Checkpoints(checkpoint, deadline, interruption, advance)
        trainer = L.Trainer(
            accelerator={"cpu": "cpu", "cuda": "gpu"}[device],
            devices=1,
            min_epochs=0,  # it may stop within the first one
            max_epochs=stage.epochs,
            precision=stage.precision,
            gradient_clip_val=stage.clip,
            gradient_clip_algorithm=stage.clip_algorithm,
            callbacks=[
                WeightAveraging(use_buffers=False, multi_avg_fn=average or get_ema_multi_avg_fn(stage.ema_decay)),
                *([] if watch is None else [watch]),  # before them: a checkpoint holds what it knows of the same batch
                checkpoints,
            ],
            logger=CSVLogger(out, name="log", version=f"{stage.name}-{len(call_logs(out, stage.name))}"),
            check_val_every_n_epoch=min(stage.validate_every, stage.epochs),
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            log_every_n_steps=module.steps_per_epoch,
        )
        try:
            trainer.fit(module, ckpt_path=checkpoint if checkpoint.exists() else None)
        except SystemExit:  # what Lightning makes of a KeyboardInterrupt
            if not trainer.interrupted:
                raise
            raise KeyboardInterrupt from None
    if interruption.asked:
        raise KeyboardInterrupt
    return trainer.current_epoch >= stage.epochs and not checkpoints.within_epoch, checkpoints.seconds
