"""What `bench.testing.check_trainable` looks for in a model that `bench learn` is to train."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import model_specs
from bench.errors import one_line
from bench.interfaces import Trainable, TrainingOrder
from bench.learning.plan import Place, entry_name
from bench.learning.snapshots import training_folder, weights_of
from bench.learning.timer import SnapshotTimer
from bench.learning.trainables import checked_trainable, curves_of, sampler_spec
from bench.run_folder.manifest import file_sha256

STEPS = 8  # of a training that is checked; the first snapshot comes after half of them
CRYSTALS = 2


class Killed(BaseException):
    """What ends a training in the middle of a step, as SIGKILL would: no `except Exception` of a model stops it."""


class StepClock:
    """A clock by which each step takes a second. last: the training is killed in the step after so many."""

    def __init__(self, last: int | None = None) -> None:
        self._last, self._steps = last, 0

    def start(self) -> None:
        """Nothing to note."""

    def stop(self) -> float:
        """One second, unless it is the time to be killed."""
        if self._steps == self._last:
            raise Killed
        self._steps += 1
        return 1.0


class _Training:
    """Trainings of one model in a folder, each from its own `build`."""

    def __init__(self, build: Callable[[], Any], root: Path, device: str, dataset: str, preset: str) -> None:
        self._build, self.root = build, root
        self._of_order = dataset, preset, device
        self.name = checked_trainable(build(), "it").name

    def folder(self, run: str) -> Path:
        return training_folder(self.root / run, self.name, 1.0, 0)

    def train(self, run: str, seed: int, factor: float = 1.0, last: int | None = None) -> dict[str, str]:
        """Trains for STEPS steps, or is killed after `last`; the hash of each snapshot by its name."""
        folder, (dataset, preset, device) = self.folder(run), self._of_order
        checkpoints = folder / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        timer = SnapshotTimer((STEPS / 2, STEPS), StepClock(last), folder, measures_cpu=False)
        try:
            trainable: Trainable = self._build()
            trainable.train(TrainingOrder(dataset, preset, device, 1, seed, factor, checkpoints), timer)
        except Killed:
            return {}
        except Exception as error:
            raise ValueError(f"train raised {one_line(error, kind=True)}") from error
        if not timer.over:
            raise ValueError(f"train ended after {timer.seconds:g} of {STEPS} seconds: it must go on until timer.over")
        if timer.seconds > STEPS:
            raise ValueError(
                f"train took {timer.seconds - STEPS:g} steps more when timer.stop had said that no time is left"
            )
        return {f"snapshot-{k}": file_sha256(folder / f"snapshot-{k}") for k in (0, 1)}


def trainable_faults(
    build: Callable[[], Any], device: str, seed: int, dataset: str, preset: str, states: Callable[[], dict[str, Any]]
) -> Iterator[str]:
    """One line for each fault. states: the global random states, as something that can be compared."""
    with tempfile.TemporaryDirectory() as place:
        try:
            training = _Training(build, Path(place), device, dataset, preset)
            before = states()
            first = training.train("first", seed)
            after = states()
            for name, state in after.items():
                if name in before and before[name] != state:
                    yield f"train changes {name}, which belongs to the whole process; leave it as it was"
            if training.train("again", seed) != first:
                yield "the same seed saves other weights: there is chance in it besides the seed"
            if training.train("other", seed + 1) == first:
                yield f"seeds {seed} and {seed + 1} save the same weights: the seed is not used"
            if training.train("factor", seed, factor=2.0) == first:
                yield "twice the learning rate saves the same weights: order.rate_factor is not used"
            for last in (1, STEPS - 1):
                training.train(f"killed-{last}", seed, last=last)
                if training.train(f"killed-{last}", seed) != first:
                    yield (
                        f"killed after {last} steps it goes on to other weights: keep weights, optimiser, place in the "
                        "data and timer.state() in one checkpoint"
                    )
            if first["snapshot-0"] == first["snapshot-1"]:
                yield f"after {STEPS // 2} and after {STEPS} steps it saves the same weights"
            yield from _sampler_faults(build, training, device, seed, dataset, preset)
        except ValueError as error:
            yield one_line(error, limit=None)


def _sampler_faults(
    build: Callable[[], Any], training: _Training, device: str, seed: int, dataset: str, preset: str
) -> Iterator[str]:
    for curve in curves_of(build(), 1.0):
        try:
            place = Place(training.name, 1.0, curve.key, 1, float(STEPS))
            spec = sampler_spec(curve.text, entry_name(place))
            weights = weights_of(training.root / "first", place, 0)
            generator = model_specs.build_generator(model_specs.with_weights(spec, weights), dataset, preset)
            generator.load(device)
            batch = generator.sample(num_crystals=CRYSTALS, seed=seed)
            if batch.requested != CRYSTALS:
                yield f"{curve.text} gave {batch.requested} crystals and reasons, not {CRYSTALS}"
        except Exception as error:
            yield f"{curve.text} cannot sample from a snapshot: {one_line(error, limit=None, kind=True)}"
