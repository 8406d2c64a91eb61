"""The clock of a training: device seconds of its steps, and snapshots of its weights when their time has come."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.budget import DeviceClock


class SnapshotTimer:
    """A `bench.interfaces.TrainingTimer`: saves weights once the seconds of a training reach each of `marks`.

    marks: device seconds, ascending; the last one is the budget. folder: gets snapshot-0/, snapshot-1/ and so on.
    told: called after each snapshot. measures_cpu: whether CPU seconds are counted, which a clock that is not
    the machine's makes senseless.
    """

    def __init__(
        self,
        marks: Sequence[float],
        clock: DeviceClock,
        folder: Path,
        told: Callable[[SnapshotTimer], None] = lambda timer: None,
        measures_cpu: bool = True,
    ) -> None:
        self.marks, self.folder = tuple(marks), folder
        self._seconds = self.cpu_seconds = 0.0
        self.steps = 0
        self.passed: list[float] = []
        self._clock, self._told, self._measures_cpu = clock, told, measures_cpu
        self._running = False
        self._cpu_s = 0.0

    @property
    def seconds(self) -> float:
        """Device seconds of all steps so far."""
        return self._seconds

    @property
    def budget_s(self) -> float:
        """Device seconds of the whole training."""
        return self.marks[-1]

    @property
    def over(self) -> bool:
        """Whether the budget is spent: there is nothing more to train."""
        return len(self.passed) == len(self.marks)

    def start(self) -> None:
        """Before a step. ValueError where the one before did not stop."""
        if self._running:
            raise ValueError("a training timer was started twice; call stop after each step")
        self._running = True
        self._cpu_s = time.process_time()
        self._clock.start()

    def stop(self, save: Callable[[Path], None]) -> bool:
        """After a step. Calls save(FOLDER), not timed, where a snapshot is due; gives whether there is time left.

        ValueError where it was not started.
        """
        if not self._running:
            raise ValueError("a training timer was stopped before it was started")
        self._seconds += self._clock.stop()
        self._running = False
        self.steps += 1
        if self._measures_cpu:
            self.cpu_seconds += time.process_time() - self._cpu_s
        while not self.over and self.seconds >= self.marks[len(self.passed)]:
            self._snapshot(save)
        return not self.over

    def state(self) -> dict[str, Any]:
        """To be kept with a checkpoint of the training."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "steps": self.steps,
            "passed": list(self.passed),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave: what was spent since that checkpoint was lost with the weights."""
        self._seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]
        self.steps, self.passed = state["steps"], list(state["passed"])

    def _snapshot(self, save: Callable[[Path], None]) -> None:
        """One that an earlier call left there is replaced: it may be of a training that was cut off and went on."""
        place = self.folder / f"snapshot-{len(self.passed)}"
        partial = place.with_name(f"{place.name}.partial")
        for left in (partial, place):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        save(partial)
        if not any(partial.iterdir()):
            raise ValueError(f"{place}: the model saved nothing there")
        os.replace(partial, place)
        self.passed.append(self.seconds)
        self._told(self)
