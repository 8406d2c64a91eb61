"""`bench train`: Algorithm 1 and DiffCSP's training, by Lightning, with checkpoints that resume exactly.

Every random number of a step is a function of (seed, stage, step), every order of crystals of (seed, stage, epoch), so
a run that stopped at a checkpoint and went on ends with the same weights as one that never stopped.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import LambdaCallback, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from bench.atomic import replacement
from bench.crystals import Crystals
from bench.datasets import canonical_name, load_split, reference_card, split_hash
from models import trainees
from models.dense import DenseBatch, pack
from models.diffusion import SeededNoise
from models.optimiser import check_optimiser, make_optimiser
from models.presets import StageConfig
from models.presets import preset as find_preset
from models.training_run import check_same_run, training_folder
from models.weights import (
    FREE_OF_A_START,
    FREE_OF_A_WEAK_NETWORK,
    differing_keys,
    load_into,
    read_card,
    read_weights,
    save_weights,
)

if TYPE_CHECKING:
    import pandas as pd

ScoreSamples = Callable[[Crystals], dict[str, float]]
# (label, total, unit, done) -> a context that gives what is called with the epochs done and the crystals in them.
Progress = Callable[[str, float, str, float], AbstractContextManager[Callable[[float, float], None]]]

# Adam knows nothing of trained weights at its first steps, whose length is the learning rate whatever the gradient.
INIT_WARMUP_STEPS = 300
PLATEAU_EPOCHS = 30


@dataclasses.dataclass(frozen=True)
class SampledMetrics:
    """Metrics of crystals that a half-trained model samples.

    steps: at most, so that DiffCSP's 1000 do not take over the training time.
    """

    score: ScoreSamples
    num_atoms_probabilities: NDArray[np.float64]
    seed: int
    num_crystals: int = 100
    steps: int = 100

    def __call__(self, model: trainees.Model) -> dict[str, float]:
        """Samples with the current weights and scores."""
        device = str(next(model.parameters()).device)
        batch = trainees.sample(model, self.num_atoms_probabilities, self.num_crystals, self.seed, self.steps, device)
        return {"generated": len(batch.crystals) / batch.requested, **self.score(batch.crystals)}


class EpochBatches(Dataset[DenseBatch]):
    """The batches of one epoch, crystals of one N in each, in an order that (seed, epoch) fixes."""

    def __init__(self, buckets: list[DenseBatch], stage: StageConfig, seed: int | None, epoch: int) -> None:
        self.buckets = buckets
        self.plan: list[tuple[int, Tensor]] = []
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

    def __getitem__(self, index: int) -> DenseBatch:
        bucket, crystals = self.plan[index]
        return self.buckets[bucket].take(crystals)


class Stage(L.LightningModule):
    """One stage of training as Lightning sees it: the loss of a part of the model, its optimiser and its data."""

    def __init__(
        self,
        model: trainees.Model,
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
        self.trained: nn.Module = trainees.trained_part(model, config.name)
        self.steps_per_epoch = len(EpochBatches(train, config, seed, 0))
        model.requires_grad_(False)
        self.trained.requires_grad_(True)

    def losses(self, batch: DenseBatch, noise_seed: list[int]) -> dict[str, Tensor]:
        """The stage's losses with noise that the seed fixes."""
        state = int(np.random.SeedSequence(noise_seed).generate_state(1, np.uint64)[0] >> 1)
        noise = SeededNoise.from_seed(state, self.device)
        progress = self.current_epoch / self.config.epochs
        return trainees.losses(self.model, self.config.name, batch, noise, progress)

    def train_dataloader(self) -> DataLoader[DenseBatch]:
        """This epoch's batches; the trainer asks anew each epoch."""
        return self._load(EpochBatches(self.train_buckets, self.config, self.seed, self.trainer.current_epoch))

    def val_dataloader(self) -> DataLoader[DenseBatch]:
        """The validation split, always in one order."""
        return self._load(EpochBatches(self.val_buckets, self.config, None, 0))

    def _load(self, batches: EpochBatches) -> DataLoader[DenseBatch]:
        # Without a generator of its own a loader draws from the global one at every epoch.
        return DataLoader(batches, batch_size=None, generator=torch.Generator())

    def training_step(self, batch: DenseBatch, index: int) -> Tensor:
        """One batch; logs its losses by epoch."""
        losses = self.losses(batch, [self.seed, 1, self.global_step])
        self.log_dict({f"train_{k}": v for k, v in losses.items()}, on_epoch=True, on_step=False, batch_size=len(batch))
        return losses["loss"]

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


class Checkpoints(L.Callback):
    """Saves at the end of an epoch: every `interval_s`, at the last epoch, and when the time is up (then it stops).

    Only whole epochs are saved, since the data order is a function of the epoch.
    """

    def __init__(self, path: Path, deadline: float | None, interval_s: float = 60.0) -> None:
        self.path, self.deadline, self.interval_s = path, deadline, interval_s
        self.seconds_before = 0.0
        self.started = self.saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Training seconds of this stage, earlier calls included."""
        return self.seconds_before + time.monotonic() - self.started

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves when due."""
        now = time.monotonic()
        over = self.deadline is not None and now >= self.deadline
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if over or last or now - self.saved >= self.interval_s:
            with replacement(self.path) as partial:
                trainer.save_checkpoint(partial)
            self.saved = now
        trainer.should_stop = trainer.should_stop or over

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self.seconds_before = state_dict["seconds"]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's announcements, among them one at every checkpoint, and warnings of what is meant to be so."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Data is in memory already: workers would only copy it.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own call
            # torch.compile traces through the cache of pairs, a pure function of N.
            warnings.filterwarnings("ignore", message=".*functools.lru_cache.*")
            yield
    finally:
        logger.setLevel(level)


def fit(
    module: Stage,
    out: Path,
    deadline: float | None,
    device: str,
    compile_network: bool,
    progress: Progress | None = None,
) -> tuple[bool, float]:
    """Trains one stage from its checkpoint, if there is one; leaves the averaged weights in the module.

    Returns whether all epochs are done, and the seconds spent on the stage in all calls.
    """
    stage = module.config
    checkpoint = out / f"{stage.name}.ckpt"
    checkpoints = Checkpoints(checkpoint, deadline)
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
        done = saved["epoch"] + 1
        if done >= stage.epochs:
            module.load_state_dict(saved["state_dict"])
            return True, float(saved["callbacks"]["Checkpoints"]["seconds"])
    if compile_network:
        for part in trainees.compiled_parts(module.trained):
            part.compile(dynamic=len(module.train_buckets) > 2)
    train_crystals = sum(map(len, module.train_buckets))
    progress = progress or (lambda *stage: nullcontext(lambda epochs, crystals: None))
    with quiet_lightning(), progress(f"training {stage.name}", stage.epochs, "epochs", done) as advance:
        trainer = L.Trainer(
            accelerator={"cpu": "cpu", "cuda": "gpu"}[device],
            devices=1,
            max_epochs=stage.epochs,
            precision=stage.precision,
            gradient_clip_val=stage.clip,
            gradient_clip_algorithm=stage.clip_algorithm,
            callbacks=[
                WeightAveraging(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(stage.ema_decay)),
                checkpoints,
                LambdaCallback(on_train_epoch_end=lambda trainer, stage_module: advance(1, train_crystals)),
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
        trainer.fit(module, ckpt_path=checkpoint if checkpoint.exists() else None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return trainer.current_epoch >= stage.epochs, checkpoints.seconds


def train(
    *,
    model: str,
    dataset: str,
    preset: str,
    out: Path | None = None,
    max_time: timedelta | None = None,
    resume: bool = False,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
    compile_network: bool | None = None,
    epochs: int | None = None,
    init: Path | None = None,
    score: ScoreSamples | None = None,
    progress: Progress | None = None,
) -> Path:
    """Trains all stages of a model on a data set; returns the weights file, OUT/weights.safetensors.

    out: folder of checkpoints, logs and weights, by default checkpoints/MODEL-DATASET-PRESET. max_time: for this call;
    a stopped run goes on with `resume`. threads: one is best beside other work. compile_network: by torch.compile; None
    means where there is a C++ compiler, on a GPU or where all crystals have one N: 20 sizes of N take minutes to
    compile, and on a CPU `EdgeMessages` does without. epochs: of the last stage, instead of the preset's. init: weights
    that the last stage starts from, in place of the stages before it. score: metrics of sampled crystals, logged every
    so often. progress: shows how far a stage is. ValueError says what to change when the folder holds a run or another
    one, names are unknown, data is missing or the weights are of another network.
    """
    dataset = canonical_name(dataset)
    chosen = find_preset(model, dataset, preset)
    out = out or Path("checkpoints") / f"{model}-{dataset}-{preset}"
    device = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    if any(out.glob("*.ckpt")) and not resume:
        raise ValueError(f"{out}: holds a training run; go on with --resume or choose another --out")
    stages = chosen.stages
    if init is not None:
        stages = (dataclasses.replace(stages[-1], warmup_steps=max(stages[-1].warmup_steps, INIT_WARMUP_STEPS)),)
    elif (out / f"{stages[-1].name}.ckpt").exists() and not (out / f"{stages[0].name}.ckpt").exists():
        raise ValueError(f"{out}: this run began with --init WEIGHTS; give the same with --resume")
    if epochs is not None:
        stages = (*stages[:-1], dataclasses.replace(stages[-1], epochs=epochs))
    for stage in stages:
        check_optimiser(stage.optimiser)
    asked = {"model": model, "dataset": dataset, "preset": preset, "seed": seed}
    asked["init"] = None if init is None else read_card(init).get("sha256")
    asked["stages"] = [dataclasses.asdict(stage) for stage in stages]
    check_same_run(out, asked)
    train_buckets, val_buckets = pack(load_split(dataset, "train")), pack(load_split(dataset, "val"))
    with training_folder(out, asked):
        torch.set_num_threads(threads)
        if compile_network is None:
            compile_network = (device == "cuda" or len(train_buckets) == 1) and shutil.which("g++") is not None
        network = trainees.build(chosen.config, seed)
        trainees.fit_statistics(network, train_buckets)
        start = None if init is None else load_start(network, init, chosen.config, weak=preset == "cpu-weak")
        probabilities = reference_card(dataset).num_atoms_probabilities
        deadline = None if max_time is None else time.monotonic() + max_time.total_seconds()
        seconds, finished = 0.0, True
        for number, stage in enumerate(stages, start=len(chosen.stages) - len(stages)):
            sampled = None if score is None else SampledMetrics(score, probabilities, seed)
            seen, seen_val = (
                trainees.as_seen(network, stage.name, buckets) for buckets in (train_buckets, val_buckets)
            )
            module = Stage(network, stage, seen, seen_val, seed * 10 + number, sampled)
            finished, stage_seconds = fit(module, out, deadline, device, compile_network, progress)
            network.cpu()
            seconds += stage_seconds
            if not finished:
                break
            train_buckets = trainees.finish_stage(network, stage.name, train_buckets, seed)
        card = {
            "model": model,
            "dataset": dataset,
            "preset": preset,
            "config": dataclasses.asdict(chosen.config),
            "stages": [dataclasses.asdict(s) for s in stages],
            **({} if start is None else {"init": start}),
            "finished": finished,
            "data": {split: split_hash(dataset, split) for split in ("train", "val")},
            "train_crystals": sum(map(len, train_buckets)),
            "seed": seed,
            "threads": threads,
            "device": device,
            "training_seconds": round(seconds),
            "parameters": sum(p.numel() for p in network.parameters()),
            "torch": torch.__version__,
        }
        path = out / "weights.safetensors"
        save_weights(path, network.state_dict(), card)
        plot_losses(out, [stage.name for stage in stages])
        return path


def load_start(network: nn.Module, init: Path, config: trainees.ModelConfig, weak: bool = False) -> dict[str, Any]:
    """Loads weights to start from; gives what the new card says of them. ValueError for another network's.

    How losses weigh and how the sampler steps are no part of a network. weak: takes the latents alone.
    """
    state_dict, card = read_weights(init)
    if weak:
        fresh = {key: value for key, value in network.state_dict().items() if key.startswith("network.")}
        state_dict = {**{k: v for k, v in state_dict.items() if not k.startswith("network.")}, **fresh}
    free = FREE_OF_A_WEAK_NETWORK if weak else FREE_OF_A_START
    differing = differing_keys(dataclasses.asdict(config), card.get("config", {}), free)
    if differing:
        raise ValueError(f"{init}: not the network of this preset (differs in {', '.join(differing)})")
    load_into(network, state_dict, init)
    kept = ("sha256", "seed", "training_seconds", "stages", "init")
    return {key: card[key] for key in kept if key in card}


def call_logs(out: Path, stage: str) -> list[Path]:
    """The CSV logs of a stage, one for each call that trained it, in order. Lightning empties a log it finds."""
    return sorted((out / "log").glob(f"{stage}-*/metrics.csv"), key=lambda path: int(path.parent.name.rsplit("-")[-1]))


def read_log(out: Path, stage: str) -> pd.DataFrame:
    """All logged rows of a stage; epochs that a kill made train twice are kept once, as the later call saw them."""
    import pandas as pd

    log = pd.DataFrame()
    for path in call_logs(out, stage):
        call = pd.read_csv(path)
        log = call if log.empty else pd.concat([log[log["epoch"] < call["epoch"].min()], call], ignore_index=True)
    return log


def plot_losses(out: Path, stages: Sequence[str]) -> Path | None:
    """Draws the losses in OUT/log as OUT/losses.png, one panel a stage; None where nothing was logged."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    logs = {name: log for name in stages if "train_loss" in (log := read_log(out, name))}
    if not logs:
        return None
    figure, axes = plt.subplots(1, len(logs), figsize=(5 * len(logs), 3.6), squeeze=False, layout="constrained")
    for axis, (name, log) in zip(axes[0], logs.items(), strict=True):
        for column, style in (("train_loss", "-"), ("val_loss", "o-")):
            if column in log:
                rows = log[["epoch", column]].dropna()
                axis.plot(rows["epoch"], rows[column], style, ms=3, lw=1, label=column.replace("_loss", ""))
        axis.set(title=f"stage: {name}", xlabel="epoch", ylabel="loss", yscale="log")
        axis.legend(frameon=False)
    path = out / "losses.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
