"""Progress on stderr: bars with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

PLAIN_INTERVAL_S = 15.0  # between two lines of one stage where stderr is a file

Advance = Callable[[float, float], None]  # work done, in the stage's unit, and crystals in it


def say(line: str) -> None:
    """One line on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@dataclass
class SaidOnce:
    """Says the first line that it is given, with what comes before it, and no further one."""

    before: str
    said: bool = False

    def __call__(self, what: str) -> None:
        """One line, the first time."""
        if not self.said:
            self.said = True
            say(f"{self.before} ({what})")


def show_warning(message: Warning | str, *place: object, **more: object) -> None:
    """A warning as one line on stderr, without the place in the code: stands in for `warnings.showwarning`."""
    say(f"warning: {' '.join(str(message).split())}")


@contextmanager
def progress(label: str, total: float, unit: str, done: float = 0.0, bar: bool = True) -> Iterator[Advance]:
    """A bar for one stage; call what it gives with each piece of work done.

    total, done: in `unit` ("crystals", "s of device time"). Rates leave out what was done before. bar: False where
    other stages go on at the same time; a terminal shows one bar alone.
    """
    if bar and sys.stderr.isatty():
        yield from _bar(label, total, unit, done)
    else:
        yield from _lines(label, total, unit, done, sys.stderr)


def _bar(label: str, total: float, unit: str, done: float) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}}/{{task.total:,.0f}} {unit}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Twice a second: drawing must not take time from the sampling that is measured meanwhile.
    # Batches may take minutes, and the time left is told from those of the last `speed_estimate_period` seconds.
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2, speed_estimate_period=3600) as bar:
        task = bar.add_task(label, total=total, completed=int(done), rate="")
        started, crystals_done = time.monotonic(), 0.0

        def advance(amount: float, crystals: float) -> None:
            nonlocal crystals_done
            crystals_done += crystals
            bar.update(task, advance=amount, rate=_rate(crystals_done, time.monotonic() - started))

        yield advance


def _lines(label: str, total: float, unit: str, done: float, stream: TextIO) -> Iterator[Advance]:
    started = shown = time.monotonic()
    here = crystals_done = 0.0

    def advance(amount: float, crystals: float) -> None:
        nonlocal here, crystals_done, shown
        here, crystals_done = here + amount, crystals_done + crystals
        now = time.monotonic()
        if now - shown >= PLAIN_INTERVAL_S and done + here < total:
            shown = now
            left = (total - done - here) * (now - started) / here if here else 0.0
            rate = _rate(crystals_done, now - started)
            stream.write(f"{label}: {done + here:,.0f}/{total:,.0f} {unit}, {rate}, {format_seconds(left)} left\n")
            stream.flush()

    yield advance
    elapsed = time.monotonic() - started
    rate = _rate(crystals_done, elapsed)
    stream.write(f"{label}: {crystals_done:,.0f} crystals in {format_seconds(elapsed)}{', ' if rate else ''}{rate}\n")
    stream.flush()


def _rate(crystals: float, seconds: float) -> str:
    if crystals <= 0 or seconds <= 0:
        return ""
    per_second = crystals / seconds
    return f"{per_second:,.1f} crystals/s" if per_second >= 1 else f"{1 / per_second:.1f} s a crystal"


def format_seconds(seconds: float) -> str:
    """A duration to read: "12 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
