"""The device and the threads that a run samples with."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What libraries that compute with several threads look at when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
NVIDIA_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")


def resolve_device(name: str) -> str:
    """The device that auto, cpu or cuda names: "cpu" or "cuda". ValueError where cuda is asked for and not there.

    On Linux a machine without NVIDIA's driver is told by its files, so that a run on a CPU need not import torch.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device {name!r}: known are auto, cpu, cuda")
    if name == "cpu":
        return "cpu"
    driver = sys.platform != "linux" or any(Path(file).exists() for file in NVIDIA_FILES)
    if driver and find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if name == "cuda":
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return "cpu"


def named_threads() -> int | None:
    """OMP_NUM_THREADS where it is set to a number above 0."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdigit() and int(named) > 0 else None


def let_threads_sleep() -> None:
    """Makes threads that wait for each other sleep. To be called before torch is imported; the user's own setting wins.

    By default they spin for a while, and beside other work each then waits for a core that another of them burns:
    25 crystals of CrysLDM in 20 steps on two threads and two busy cores took 18 s, with sleeping threads 0.6 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def set_threads(threads: int) -> None:
    """Makes torch, where a generator has imported it, compute with that many threads."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def one_thread_for_new_processes() -> Iterator[None]:
    """Processes that start meanwhile compute with one thread each; this one's variables are restored in the end."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def describe_device(device: str) -> dict[str, Any]:
    """Kind and name of a device, for the manifest."""
    if device == "cuda":
        import torch

        return {"kind": "cuda", "name": torch.cuda.get_device_name()}
    return {"kind": "cpu", "name": _cpu_name(), "cores": os.cpu_count()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
