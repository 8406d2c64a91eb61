"""Joules that a device took, from a counter in its hardware; where there is none, the reason and no estimate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")


class EnergyCounter(Protocol):
    """A counter of joules. name: what is counted, for the run's notes."""

    name: str

    def joules(self) -> float:
        """Since some fixed moment; only differences mean something."""


class Rapl:
    """The packages of an Intel or AMD processor: everything that runs on them, ours and others'."""

    name = "RAPL, all packages of the processor with whatever ran on them"

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._ranges = [int((package / "max_energy_range_uj").read_text()) for package in packages]
        self._last = [self._read(package) for package in packages]
        self._total = 0

    def joules(self) -> float:
        """Since this object was made. Counters that ran over are taken on from 0."""
        for place, package in enumerate(self._packages):
            now = self._read(package)
            gone = now - self._last[place]
            self._total += gone if gone >= 0 else gone + self._ranges[place]
            self._last[place] = now
        return self._total / 1e6

    @staticmethod
    def _read(package: Path) -> int:
        return int((package / "energy_uj").read_text())


class Nvml:
    """The GPU that torch uses, by NVIDIA's library: its joules, and who else computes on it."""

    name = "NVML, the GPU alone"

    def __init__(self) -> None:
        import pynvml
        import torch

        pynvml.nvmlInit()
        self._library: Any = pynvml
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        self._gpu: Any = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        self._seen = 0

    def joules(self) -> float:
        """Since the driver was loaded."""
        return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._gpu)) / 1000

    def others_share(self) -> float | None:
        """Share of the GPU that other processes used since this was last asked; None where the driver does not say."""
        try:
            samples = self._library.nvmlDeviceGetProcessUtilization(self._gpu, self._seen)
        except self._library.NVMLError_NotFound:
            return 0.0  # no process computed
        except self._library.NVMLError:
            return None
        self._seen = max([self._seen, *(int(sample.timeStamp) for sample in samples)])
        return min(1.0, sum(int(sample.smUtil) for sample in samples if int(sample.pid) != os.getpid()) / 100)


def open_nvml() -> tuple[Nvml | None, str]:
    """NVIDIA's library for the GPU in use, or None and why."""
    try:
        return Nvml(), ""
    except ImportError:
        return None, "NVML's package is not installed: pip install nvidia-ml-py"
    except Exception as error:  # the library has its own errors, and torch others, for whatever the driver lacks
        return None, f"NVML: {error}"


def energy_counter(device: str, nvml: tuple[Nvml | None, str] | None = None) -> tuple[EnergyCounter | None, str]:
    """The counter of a device and its name, or None and why there is none. nvml: as `open_nvml` gives it."""
    if device.startswith("cuda"):
        gpu, reason = nvml or open_nvml()
        if gpu is None:
            return None, reason
        try:
            gpu.joules()
        except Exception as error:
            return None, f"NVML: this GPU has no energy counter ({error})"
        return gpu, gpu.name
    return _rapl(POWERCAP)


def _rapl(powercap: Path) -> tuple[EnergyCounter | None, str]:
    packages = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    if not packages:
        return None, f"the processor's energy counter (RAPL) is not there: no {powercap}/intel-rapl:0"
    try:
        return Rapl(packages), Rapl.name
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return None, f"the processor's energy counter (RAPL) cannot be read ({reason}): let root make it readable"
