"""Kills runs of `bench learn` with SIGKILL, resumes them, and prints the exit codes as JSON.

python killed_learning.py FOLDER CALL ...      CALL: at which writing of a file the process is killed

FOLDER/whole is a run that was left alone, FOLDER/CALL those that were killed. Each process is a fork of this one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from fake_bench import FAKE_PLUGINS

from bench import registry, runner
from bench.budget import Budget
from bench.learning.conformance import StepClock
from bench.learning.plan import LearningPlan
from bench.store import MANIFEST

PLAN = runner.Plan(
    models=(),
    dataset="perov5",
    budget=Budget(num_samples=11),
    workers=1,
    device="cpu",
    threads=1,
    learning=LearningPlan(("fake_trainables:FakeTrainable", "fake_trainables:TwoSamplers"), 8.0, seeds=2, snapshots=3),
)


def go_on(root: Path) -> None:
    """Runs it, from where it stands."""
    if (root / MANIFEST).exists():
        runner.resume(root, 1, clock=StepClock())
    else:
        runner.run(PLAN, root, clock=StepClock())


def forked(work: Callable[[], None], kill_at: int | None = None) -> int:
    """The status of a fork that does the work, and is killed at a call of os.replace."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            real, calls = os.replace, 0

            def counted(*arguments: object) -> None:
                nonlocal calls
                calls += 1
                if calls == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(*arguments)  # type: ignore[arg-type]

            os.replace = counted  # type: ignore[assignment]
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    folder = Path(sys.argv[1])
    registry.PLUGINS = FAKE_PLUGINS
    codes = [forked(lambda: go_on(folder / "whole"))]
    for call in sys.argv[2:]:
        codes.append(forked(lambda: go_on(folder / call), int(call)))  # noqa: B023
        codes.append(forked(lambda: go_on(folder / call)))  # noqa: B023
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
