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


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
