"""Device time: the clock that measures it, and the budget that ends a run."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

PAPER_NUM_SAMPLES = 1000
# On a CPU: Table 1 within minutes on two cores, although DiffCSP needs about 0.45 s a crystal.
DEFAULT_NUM_SAMPLES = {"cpu": 250, "cuda": PAPER_NUM_SAMPLES}
SAFETY = 0.02  # a batch is planned only where its predicted time and this share more are left


class DeviceClock(Protocol):
    """Measures what a device spends between `start` and `stop`."""

    def start(self) -> None:
        """Begins, once all work queued before has ended."""

    def stop(self) -> float:
        """Device seconds since `start`, once all work queued since has ended."""


class MonotonicClock:
    """The clock of a CPU, where work is done when the call returns. now: seconds, never going back."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._started = 0.0

    def start(self) -> None:
        """Notes the time."""
        self._started = self._now()

    def stop(self) -> float:
        """Seconds since `start`."""
        return self._now() - self._started


class CudaClock:
    """CUDA events on the current stream, with a synchronise at both ends."""

    def __init__(self) -> None:
        import torch

        self._event: Any = torch.cuda.Event
        self._synchronize: Any = torch.cuda.synchronize
        self._begin: Any = None

    def start(self) -> None:
        """Waits for the device and records an event."""
        self._synchronize()
        self._begin = self._event(enable_timing=True)
        self._begin.record()

    def stop(self) -> float:
        """Records an event, waits for the device and gives the seconds between the two."""
        end = self._event(enable_timing=True)
        end.record()
        self._synchronize()
        return float(self._begin.elapsed_time(end)) / 1000


def device_clock(device: str) -> DeviceClock:
    """The clock of a device ("cpu", "cuda")."""
    return CudaClock() if device.startswith("cuda") else MonotonicClock()


@dataclass(frozen=True)
class Budget:
    """What each model may spend: a number of crystals or device seconds, one of the two."""

    num_samples: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.num_samples is None) == (self.seconds is None):
            raise ValueError("a budget is either --num-samples or --budget, not both")
        if self.num_samples is not None and self.num_samples < 1:
            raise ValueError(f"--num-samples {self.num_samples}: must be at least 1")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"--budget {self.seconds} s: must be more than nothing")

    def plain(self) -> dict[str, float]:
        """The one that is set, by its name; `Budget(**plain)` is the same again."""
        if self.num_samples is not None:
            return {"num_samples": self.num_samples}
        return {"seconds": self.seconds or 0.0}

    def __str__(self) -> str:
        return f"{self.num_samples} crystals" if self.seconds is None else f"{self.seconds:g} device seconds"


def parse_duration(text: str, option: str = "--budget") -> float:
    """Seconds in a number with s, m or h: "90s", "10m", "1.5h". ValueError says how to write one."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smh])", text.strip())
    if not found or float(found[1]) == 0:
        raise ValueError(f"{option} {text!r}: write a number above 0 with s, m or h, such as 90s, 10m or 1.5h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


@dataclass
class BatchPlanner:
    """Sizes the batches of one model.

    With a number of crystals: `batch_size` each, the last one what is left. With device seconds: `batch_size` while
    that fits into what is left, then the largest batch that is predicted to, until not one crystal does. Predictions
    come from the medians of measured batches of a size; the warm-up, which is slow, is the first of them, so that the
    first guesses are on the safe side.
    """

    budget: Budget
    batch_size: int
    _measured: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measured(self, num_crystals: int, seconds: float) -> None:
        """Learns what a batch took."""
        self._measured[num_crystals].append(seconds)

    def next_size(self, crystals_done: int, seconds_done: float) -> int:
        """Crystals in the next batch; 0 where the budget is spent. The first batch has at least one."""
        if self.budget.num_samples is not None:
            return min(self.batch_size, self.budget.num_samples - crystals_done)
        left = self.budget.seconds - seconds_done  # type: ignore[operator]  # one of the two is set
        if left <= 0:
            return 0
        points = self._points()
        fitting = (n for n in range(self.batch_size, 0, -1) if predicted_seconds(points, n) * (1 + SAFETY) <= left)
        size = next(fitting, 0)
        return size if crystals_done else max(size, 1)

    def predicted(self, num_crystals: int) -> float:
        """Device seconds that many crystals would take, in batches of `batch_size`; 0 where nothing was measured."""
        points = self._points()
        full, rest = divmod(num_crystals, self.batch_size)
        return full * predicted_seconds(points, self.batch_size) + (predicted_seconds(points, rest) if rest else 0.0)

    def _points(self) -> list[tuple[int, float]]:
        return sorted((size, median(seconds[-5:])) for size, seconds in self._measured.items())

    def counts(self, end_s: float) -> bool:
        """Whether a batch that ended then is within the budget."""
        return self.budget.seconds is None or end_s <= self.budget.seconds


def predicted_seconds(points: Sequence[tuple[int, float]], size: int) -> float:
    """Seconds of a batch of that size, from (size, seconds) of measured ones, ascending.

    On the straight line through the two points next to it. With one point: never less than that took, in proportion
    above it. 0 where nothing is known.
    """
    if not points:
        return 0.0
    if len(points) == 1:
        return points[0][1] * max(size / points[0][0], 1.0)
    upper = next((i for i, (known, _) in enumerate(points) if known >= size), len(points) - 1)
    (n0, t0), (n1, t1) = points[max(upper - 1, 0)], points[max(upper, 1)]
    slope = max((t1 - t0) / (n1 - n0), 0.0)
    return max(t1 - slope * (n1 - size), 0.0)
