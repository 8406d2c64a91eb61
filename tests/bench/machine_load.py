"""Processes that keep every core of this machine busy while a test looks at what that does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPIN = "import os\nprint('spinning', flush=True)\nwhile os.getppid() == {parent}:\n    for _ in range(1_000_000): pass"


@contextmanager
def busy_processes(number: int | None = None) -> Iterator[None]:
    """So many processes that compute without end; by default one more than there are cores."""
    number = (os.cpu_count() or 1) + 1 if number is None else number
    # In sessions of their own: the kernel may share cores among sessions and not among processes.
    spin = [sys.executable, "-c", SPIN.format(parent=os.getpid())]
    processes = [subprocess.Popen(spin, start_new_session=True, stdout=subprocess.PIPE) for _ in range(number)]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # on a busy machine a process takes its time to begin
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
