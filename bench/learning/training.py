"""The trainings of a run of `bench learn`: each model from scratch, once for each seed, under the device clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.atomic import write_json
from bench.budget import DeviceClock, device_clock
from bench.errors import one_line
from bench.executor import Executor, LocalExecutor
from bench.interfaces import TrainingOrder
from bench.learning.plan import LearningPlan, training_label
from bench.learning.snapshots import training_folder
from bench.learning.timer import SnapshotTimer
from bench.learning.trainables import find_trainable
from bench.progress import say
from bench.store import MANIFEST, Run

CHECKPOINTS = "checkpoints"


class Training(NamedTuple):
    """One of them. seed: its number among the seeds of the run."""

    asked: str
    model: str
    factor: float
    seed: int


def stored_plan(run: Run) -> LearningPlan:
    """What a run of `bench learn` was asked for."""
    return LearningPlan.from_json(run.manifest["learning"]["plan"])


def learning_executor(plan: LearningPlan, executor: Executor, device: str) -> Executor:
    """What trains and samples: this machine alone, by the clock that was asked for. ValueError for another executor."""
    if not isinstance(executor, LocalExecutor):
        raise ValueError("`bench learn` trains on this machine alone; leave --executor out")
    if plan.cpu_time and executor.clock is None:
        return LocalExecutor(executor.workers, device_clock(device, cpu_time=True))
    return executor


def trainings(run: Run) -> Iterator[Training]:
    """All of them. Seed by seed: whatever else the machine does meanwhile meets every model."""
    plan, names = stored_plan(run), run.manifest["learning"]["names"]
    for seed in range(plan.seeds):
        for asked in plan.models:
            for factor in plan.all_factors:
                yield Training(asked, names[asked], factor, seed)


def train_missing(run: Run, executor: Executor) -> None:
    """Trains what is not trained yet; notes in the manifest what each training came to. The lock must be held.

    executor: of `learning_executor`. ValueError where a model's training goes wrong or ends before its time.
    """
    manifest = run.manifest
    clock = executor.clock if isinstance(executor, LocalExecutor) else None
    device = manifest["device"]["kind"]
    done = manifest["learning"]["trainings"]
    for training in trainings(run):
        ended = done.setdefault(training_label(training.model, training.factor), {})
        if str(training.seed) not in ended:
            timer = _train(run, training, clock or device_clock(device), measures_cpu=clock is None)
            ended[str(training.seed)] = timer.state()
            write_json(run.root / MANIFEST, manifest)
        checkpoints = training_folder(run.root, training.model, training.factor, training.seed) / CHECKPOINTS
        shutil.rmtree(checkpoints, ignore_errors=True)


def _train(run: Run, training: Training, clock: DeviceClock, measures_cpu: bool) -> SnapshotTimer:
    manifest, plan = run.manifest, stored_plan(run)
    folder = training_folder(run.root, training.model, training.factor, training.seed)
    what = f"{training_label(training.model, training.factor)}, seed {training.seed}"

    def told(timer: SnapshotTimer) -> None:
        say(f"{what}: snapshot {len(timer.passed)} of {len(timer.marks)} after {timer.seconds:.4g} device seconds")

    timer = SnapshotTimer(plan.marks, clock, folder, told, measures_cpu)
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    order = TrainingOrder(
        run.dataset,
        manifest["preset"],
        manifest["device"]["kind"],
        manifest["threads"],
        manifest["seed"] + training.seed,
        training.factor,
        folder / CHECKPOINTS,
    )
    say(f"{what}: training for {plan.budget_s:g} device seconds")
    try:
        find_trainable(training.asked).train(order, timer)
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"{what}: training failed: {one_line(error, limit=None, kind=True)}") from error
    if not timer.over:
        raise ValueError(
            f"{what}: the training ended after {timer.seconds:.4g} of {plan.budget_s:g} device seconds; give a shorter "
            "--train-budget, or let its train go on until timer.over"
        )
    return timer


def train_seconds(run: Run, snapshot: dict[str, Any]) -> list[float]:
    """Device seconds of training at a snapshot, seed by seed."""
    ended = run.manifest["learning"]["trainings"][training_label(snapshot["model"], snapshot["factor"])]
    return [float(ended[str(seed)]["passed"][snapshot["number"]]) for seed in range(len(ended))]
