"""What a batch used of the machine, and what others used meanwhile: whether the machine was free while it was timed."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.sampling.energy import EnergyCounter, Nvml, energy_counter, open_nvml

# A batch is disturbed where a thread of ours waited for a core for more than this share of its time, or others used
# more than this share of the machine's cores (what the hypervisor took included) or of the GPU.
WAITED_LIMIT = OTHERS_LIMIT = 0.1
# Of a run's seconds so much must be undisturbed, or its time does not count.
ENOUGH_UNDISTURBED = 0.9

WINDOW_S = 0.5  # what is told of a short batch is told of so long a time until its end: the system counts in 10 ms
SHORTEST_WINDOW_S = 0.2  # of less, nothing is told
PAUSE_S = 0.1  # a longer one between two batches, scoring for example, is no part of a window

PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """What was used while a batch was sampled. None: the system does not say, or the time was too short to tell.

    cpu_s: CPU seconds of our process and its threads. waited_share: of the time, in which the thread of ours that
    waited most was ready and had no core. others_share: of all cores, used by other processes or taken by the
    hypervisor; steal_share: the latter alone. load_average: of the last minute. gpu_others_share: of the GPU, used by
    other processes. peak_memory_bytes: of the process since the model was loaded; peak_device_memory_bytes: of the
    GPU. energy_j: joules, as far as a counter says.
    """

    cpu_s: float | None = None
    waited_share: float | None = None
    others_share: float | None = None
    steal_share: float | None = None
    load_average: float | None = None
    gpu_others_share: float | None = None
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    energy_j: float | None = None

    @property
    def disturbed(self) -> bool | None:
        """Whether the time of the batch does not count; None where nothing is known."""
        shares = (
            (self.waited_share, WAITED_LIMIT),
            *((s, OTHERS_LIMIT) for s in (self.others_share, self.gpu_others_share)),
        )
        known = [share > limit for share, limit in shares if share is not None]
        return any(known) if known else None

    def __str__(self) -> str:
        """What disturbed it, in words."""
        shares = (
            (self.waited_share, "waited {} of its time for a core", WAITED_LIMIT),
            (self.others_share, "others used {} of the machine's cores", OTHERS_LIMIT),
            (self.gpu_others_share, "others used {} of the GPU", OTHERS_LIMIT),
        )
        return ", ".join(
            text.format(f"{100 * share:.0f} %") for share, text, limit in shares if share is not None and share > limit
        )


@dataclass(frozen=True)
class Reading:
    """Counters of the system at one moment, in seconds. waits: of each thread of ours, ready without a core.

    cpu_s: of our process; family_s: with its children. busy_s, steal_s: of all cores together.
    """

    wall_s: float
    cpu_s: float
    family_s: float
    busy_s: float | None = None
    steal_s: float | None = None
    waits: Mapping[int, float] | None = None


def read_counters() -> Reading:
    """The counters now. Off Linux, only what Python itself knows."""
    cpu_s = time.process_time()
    busy_s, steal_s = _machine_seconds() or (None, None)
    return Reading(time.perf_counter(), cpu_s, cpu_s + _children_seconds(), busy_s, steal_s, _thread_waits())


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Meter:
    """Measures `Usage` between `start` and `stop`. read: the counters. cores: of the machine.

    threads: that sample; with one on a CPU, its missing CPU time stands in where the system does not tell waits.
    """

    device: str = "cpu"
    threads: int = 1
    read: Callable[[], Reading] = read_counters
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    energy: EnergyCounter | None = None
    energy_note: str = ""
    _nvml: Nvml | None = None
    _history: deque[Reading] = field(default_factory=deque)
    _begun: Reading | None = None
    _joules: float = 0.0

    @classmethod
    def of(cls, device: str, threads: int) -> Meter:
        """The meter of a model that is about to be loaded: peaks of memory count from here."""
        nvml = open_nvml() if device.startswith("cuda") else (None, "")
        energy, note = energy_counter(device, nvml)
        _forget_peaks(device)
        return cls(device, threads, energy=energy, energy_note=note, _nvml=nvml[0])

    def start(self) -> None:
        """Notes the counters."""
        now = self.read()
        if not self._history or now.wall_s - self._history[-1].wall_s > PAUSE_S:
            self._history = deque([now])
        self._begun = now
        self._joules = self.energy.joules() if self.energy else 0.0

    def stop(self) -> Usage:
        """What was used since `start`; shares are of that time, or of the last half second where it was shorter."""
        joules = self.energy.joules() - self._joules if self.energy else None
        now, begun = self.read(), self._begun
        if begun is None:
            raise ValueError("a meter must be started before it is stopped")
        earliest = min(begun.wall_s, now.wall_s - WINDOW_S)
        while len(self._history) > 1 and self._history[1].wall_s <= earliest:
            self._history.popleft()
        then = self._history[0]
        self._history.append(now)
        others = self._nvml.others_share() if self._nvml else None
        return Usage(
            cpu_s=now.cpu_s - begun.cpu_s,
            **self._shares(then, now),
            load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            gpu_others_share=others,
            peak_memory_bytes=_peak_memory(),
            peak_device_memory_bytes=_peak_device_memory(self.device),
            energy_j=joules,
        )

    def _shares(self, then: Reading, now: Reading) -> dict[str, float | None]:
        seconds = now.wall_s - then.wall_s
        if seconds < SHORTEST_WINDOW_S:
            return {}
        waited: float | None = None
        if now.waits is not None and then.waits is not None:
            waited = max((wait - then.waits.get(thread, 0.0) for thread, wait in now.waits.items()), default=0.0)
        elif self.threads == 1 and self.device == "cpu":
            waited = seconds - (now.cpu_s - then.cpu_s)
        steal: float | None = None
        others: float | None = None
        if None not in (now.busy_s, then.busy_s, now.steal_s, then.steal_s):
            steal = (now.steal_s or 0.0) - (then.steal_s or 0.0)
            others = (now.busy_s or 0.0) - (then.busy_s or 0.0) - (now.family_s - then.family_s) + steal

        def share(amount: float | None, of: float) -> float | None:
            return None if amount is None else min(max(amount / of, 0.0), 1.0)

        whole = seconds * self.cores
        return {
            "waited_share": share(waited, seconds),
            "others_share": share(others, whole),
            "steal_share": share(steal, whole),
        }


def _machine_seconds() -> tuple[float, float] | None:
    """Seconds in which cores computed, and in which the hypervisor had taken them, all cores together."""
    try:
        with open(PROC / "stat") as file:
            user, nice, system, _, _, irq, softirq, steal = (int(n) for n in file.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick


def _thread_waits() -> dict[int, float] | None:
    """Seconds in which each thread of this process was ready to run and had no core."""
    waits = {}
    try:
        for thread in os.listdir(PROC / "self" / "task"):
            try:
                waits[int(thread)] = int((PROC / "self" / "task" / thread / "schedstat").read_text().split()[1]) / 1e9
            except ProcessLookupError:  # it ended meanwhile
                continue
    except (OSError, ValueError, IndexError):
        return None
    return waits if any(waits.values()) else None


def _children_seconds() -> float:
    """CPU seconds of the processes that this one started and theirs; those that ended are told by the system."""
    times = os.times()
    total, waiting = times.children_user + times.children_system, [os.getpid()]
    while waiting:
        parent = waiting.pop()
        for child in _children(parent):
            total += _process_seconds(child)
            waiting.append(child)
    return total


def _children(process: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(PROC / str(process) / "task"):
            found += map(int, (PROC / str(process) / "task" / thread / "children").read_text().split())
    except OSError:
        return found
    return found


def _process_seconds(process: int) -> float:
    try:
        fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _forget_peaks(device: str) -> None:
    """Lets the peaks of memory begin anew, where the system can."""
    with suppress(OSError):  # the peak is then that of the whole process
        (PROC / "self" / "clear_refs").write_text("5")
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()


def _peak_memory() -> int | None:
    """Bytes of memory that the process held at most."""
    try:
        with open(PROC / "self" / "status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peak_device_memory(device: str) -> int | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.max_memory_allocated())


def figures(usage: Usage | None) -> dict[str, Any]:
    """The fields of a usage, and whether it was disturbed, for the journal of batches."""
    known = usage or Usage()
    return {name: getattr(known, name) for name in known.__dataclass_fields__} | {"disturbed": known.disturbed}
