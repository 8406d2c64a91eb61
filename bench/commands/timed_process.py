"""One run of a shell command, timed from the moment it says that it is ready."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from bench.budget import DeviceClock
from bench.crystal_io.streams import printable
from bench.progress import say

MAX_LOG_BYTES = 2**24
KILL_AFTER_S = 5.0  # between the polite signal and the other one


@dataclass(frozen=True)
class Timing:
    """Seconds of one run of a command: until it was ready (None where it did not say so), of sampling, of all."""

    start_up: float | None
    sampling: float
    wall: float


def run_command(
    command: str,
    environment: Mapping[str, str],
    log: BinaryIO,
    clock: DeviceClock,
    ready: str | None = None,
    done: str | None = None,
    timeout_s: float | None = None,
) -> Timing:
    """Runs a shell command to its end and times it. What it prints goes to the log.

    Sampling lasts from the first `ready` in what it prints to the first `done` behind that, or else to its end. Its
    output is a terminal: programs hold back what they print into a pipe, and the line that ends start-up would be late.
    ValueError where it does not end well or in time; it and its children are then stopped.
    """
    ours, its = os.openpty()
    watch = _Watch(ours, log, clock, [text for text in (ready, done) if text is not None])
    timed_out = threading.Event()
    clock.start()
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        env=environment,
        start_new_session=True,
    )
    os.close(its)
    reader = threading.Thread(target=watch.read)
    reader.start()

    def stop_late() -> None:
        timed_out.set()
        _stop(process)

    timer = threading.Timer(threading.TIMEOUT_MAX if timeout_s is None else timeout_s, stop_late)
    timer.daemon = True
    timer.start()
    try:
        code = process.wait()  # without a time limit: Python's waiting with one looks only every 50 ms
        wall = watch.lap()
    finally:
        timer.cancel()
        _stop(process)
        watch.ended.set()
        reader.join()
        os.close(ours)
    if timed_out.is_set():
        raise ValueError(f"--command still ran after {timeout_s:g} s (--timeout) and was stopped{watch.said()}")
    if code != 0:
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        raise ValueError(f"--command failed with {how}{watch.said()}")
    for text, meaning in ((ready, "its start-up counts as sampling"), (done, "sampling counts to its end")):
        if text is not None and not watch.seen.get(text, wall) < wall:
            say(f"warning: --command did not print {text!r} before it ended: {meaning}")
            watch.seen.pop(text, None)
    started = watch.seen.get(ready or "")
    return Timing(started, watch.seen.get(done or "", wall) - (started or 0.0), wall)


@dataclass
class _Watch:
    """Follows what a command prints.

    awaited: texts that come one after the other. seen: text -> seconds since the command began.
    """

    terminal: int
    log: BinaryIO
    clock: DeviceClock
    awaited: list[str]
    seen: dict[str, float] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)
    _unmatched: str = ""
    _last: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _elapsed: float = 0.0

    def lap(self) -> float:
        """Seconds since the start, by a clock that only measures from a start to a stop."""
        with self._lock:
            self._elapsed += self.clock.stop()
            self.clock.start()
            return self._elapsed

    def read(self) -> None:
        """Reads until the command has ended and nothing is left; what its children say later is not waited for."""
        left = MAX_LOG_BYTES
        while True:
            last_look = self.ended.is_set()
            if not select.select([self.terminal], [], [], 0 if last_look else 0.1)[0]:
                if last_look:
                    return
                continue
            try:
                content = os.read(self.terminal, 2**16)
            except OSError:  # nobody has the other end open any more
                return
            self._match(content.decode("utf-8", "replace"))
            self._last = (self._last + content)[-4096:]
            self.log.write(content[:left])
            self.log.flush()
            left = max(0, left - len(content))

    def _match(self, text: str) -> None:
        text = self._unmatched + text
        while self.awaited and self.awaited[0] in text:
            self.seen[self.awaited[0]] = self.lap()
            text = text.partition(self.awaited.pop(0))[2]
        self._unmatched = text[-1000:]

    def said(self) -> str:
        """The last line that was printed, for an error."""
        lines = [line.strip() for line in self._last.decode("utf-8", "replace").splitlines()]
        last = next((line for line in reversed(lines) if line), None)
        return "; it said nothing" if last is None else f"; it said last: {printable(last, 300)}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and the children that are still in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        if process.poll() is not None:
            continue
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_AFTER_S)
