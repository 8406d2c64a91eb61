"""Ctrl-C during a training: it ends after the batch in work, with a checkpoint from which a later call goes on."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from bench.errors import Interrupted
from bench.interfaces import TrainingPlan


class Interruption:
    """Whether somebody asked for an end by Ctrl-C."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handles SIGINT: the first is noted, for an end in the middle of a step leaves nothing to go on from."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        sys.stderr.write("interrupted: it ends after this batch; Ctrl-C again ends it at once\n")


@contextmanager
def interruptible(plan: TrainingPlan, out: Path) -> Iterator[Interruption]:
    """Notes the first Ctrl-C and raises Interrupted, with the command that goes on, where a second or the end comes.

    Only in a process's main thread, where Python lets signals be handled; elsewhere nothing is noted.
    """
    interruption, before = Interruption(), signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, interruption)
    except ValueError:
        before = None
    try:
        yield interruption
    except KeyboardInterrupt:
        kept = any(out.glob("*.ckpt"))
        raise Interrupted(f"interrupted; {_remedy(plan, out) if kept else 'no checkpoint was written yet'}") from None
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _remedy(plan: TrainingPlan, out: Path) -> str:
    options: dict[str, Any] = {
        "model": plan.model,
        "dataset": plan.dataset,
        "preset": plan.preset,
        "out": out,
        "seed": plan.seed or None,
        "epochs": plan.epochs,
        "init": plan.init,
        "device": None if plan.device == "auto" else plan.device,
        "threads": None if plan.threads == 1 else plan.threads,
    }
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return f"go on with `{shlex.join(['python', '-m', 'bench', 'train', *words, '--resume'])}`"
