"""A Dask scheduler and its workers on the loopback interface, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
START_S = 60.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DaskProcesses:
    """Starts them with the fakes on their path; `close` kills whatever is left."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        options = ("--host", "127.0.0.1", "--port", "0")
        self.scheduler = self._start("scheduler", *options, log="scheduler", **environment)
        self.address = self._said("scheduler", "Scheduler at:").split()[-1]

    def worker(self, *, threads: int = 1, nanny: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        """Starts a worker; it is there when this returns."""
        log = f"worker-{len(self.workers)}"
        options = ["--nthreads", str(threads), "--nanny" if nanny else "--no-nanny", "--no-dashboard"]
        options += ["--memory-limit", "0", "--local-directory", str(self.folder / log)]
        process = self._start("worker", self.address, *options, log=log, **environment)
        self.workers.append(process)
        self._said(log, "Starting established connection")
        return process

    def close(self) -> None:
        """Kills all of them, nannies with their workers."""
        for process in [*self.workers, self.scheduler]:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, kind: str, *options: str, log: str, **environment: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{log}.log", "wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", kind, *options],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(HERE), **ONE_THREAD, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def _said(self, log: str, text: str) -> str:
        """The first line of a log with this text."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            content = (self.folder / f"{log}.log").read_text()
            for line in content.splitlines():
                if text in line:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"{log} did not say {text!r} in {START_S:g} s: {content}")
