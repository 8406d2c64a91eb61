"""Device time: the clock that measures it, and the budget that ends a run."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, Protocol, get_args

PAPER_NUM_SAMPLES = 1000
# On a CPU: Table 1 within minutes on two cores, although DiffCSP needs about 0.45 s a crystal.
DEFAULT_NUM_SAMPLES = {"cpu": 250, "cuda": PAPER_NUM_SAMPLES}
SAFETY = 0.02  # a batch is planned only where its predicted time and this share more are left
BUDGET_BATCHES = 40  # a budget of seconds is cut into so many: the last one, taking twice as long, is 2.5 % late
BATCH_LOSS = 0.1  # but for that a crystal may not cost more than this share above what it does in a large batch
TIMED_BATCHES = 10  # so many a number of crystals is cut into, so that their spread tells how sure a time is
SMALLEST_TIMED = 25  # crystals in a batch: not cut below that, as small batches cost more a crystal
FIRST_SCORED = 4  # crystals in the first batch where scoring counts too: what that takes is not known before

Covers = Literal["sampling", "end-to-end"]


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


def device_clock(device: str, cpu_time: bool = False) -> DeviceClock:
    """The clock of a device ("cpu", "cuda").

    cpu_time: CPU seconds of this process in place of seconds, so that waiting for a busy core does not count; on a CPU
    with one thread alone they are the same otherwise. ValueError on another device.
    """
    if cpu_time:
        if device != "cpu":
            raise ValueError(f"--clock cpu measures CPU seconds, which say nothing of {device}; leave it out")
        return MonotonicClock(time.process_time)
    return CudaClock() if device.startswith("cuda") else MonotonicClock()


@dataclass(frozen=True)
class Budget:
    """What each model may spend: a number of crystals or seconds, one of the two.

    covers: seconds of sampling on the device clock, or of sampling and scoring (wall-clock) together.
    """

    num_samples: int | None = None
    seconds: float | None = None
    covers: Covers = "sampling"

    def __post_init__(self) -> None:
        if (self.num_samples is None) == (self.seconds is None):
            raise ValueError("a budget is either --num-samples or --budget, not both")
        if self.num_samples is not None and self.num_samples < 1:
            raise ValueError(f"--num-samples {self.num_samples}: must be at least 1")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"--budget {self.seconds} s: must be more than nothing")
        if self.covers not in get_args(Covers):
            raise ValueError(f"--budget-covers {self.covers}: known are {', '.join(get_args(Covers))}")
        if self.covers != "sampling" and self.seconds is None:
            raise ValueError(f"--budget-covers {self.covers} needs --budget")

    @property
    def covers_scoring(self) -> bool:
        """Whether scoring is paid out of it."""
        return self.covers == "end-to-end"

    def to_json(self) -> dict[str, float | str]:
        """What is set, by its name; `bench.store.Run.budget` makes one of it again."""
        if self.num_samples is not None:
            return {"num_samples": self.num_samples}
        covers: dict[str, float | str] = {"covers": self.covers} if self.covers_scoring else {}
        return {"seconds": self.seconds or 0.0, **covers}

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.num_samples} crystals"
        return f"{self.seconds:g} {'seconds of sampling and scoring' if self.covers_scoring else 'device seconds'}"


def timed_batch_size(own: int, budget: Budget) -> int:
    """The size of batches for a budget: the model's own, or less where a number of crystals is then ten batches.

    A time from fewer batches has a wide interval. Below 250 crystals the model's own size stays.
    """
    share = 0 if budget.num_samples is None else budget.num_samples // TIMED_BATCHES
    return min(own, share) if share >= SMALLEST_TIMED else own


def parse_duration(text: str, option: str = "--budget") -> float:
    """Seconds in a number with s, m or h: "90s", "10m", "1.5h". ValueError says how to write one."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smh])", text.strip())
    if not found or float(found[1]) == 0:
        raise ValueError(f"{option} {text!r}: write a number above 0 with s, m or h, such as 90s, 10m or 1.5h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


@dataclass
class BatchPlanner:
    """Sizes the batches of one model.

    With a number of crystals: `batch_size` each, the last one what is left. With seconds: `batch_size` while that fits
    into what is left, then the largest batch that is predicted to, until not one crystal does; where scoring counts,
    at most what takes a fortieth of the budget, as far as is known by then. Predictions come from the medians of
    measured batches of a size; the warm-up, which is slow, is the first of them, so that the first guesses are on the
    safe side. Scoring is predicted to take what it took for each crystal until then.
    """

    budget: Budget
    batch_size: int
    _measured: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    _scored: int = 0
    _scoring_s: float = 0.0

    def measured(self, num_crystals: int, seconds: float, scoring_s: float | None = None) -> None:
        """Learns what sampling a batch took, and scoring it."""
        self._measured[num_crystals].append(seconds)
        if scoring_s is not None:
            self._scored += num_crystals
            self._scoring_s += scoring_s

    def next_size(self, crystals_done: int, seconds_done: float) -> int:
        """Crystals in the next batch; 0 where the budget is spent. The first batch has at least one."""
        if self.budget.num_samples is not None:
            return min(self.batch_size, self.budget.num_samples - crystals_done)
        seconds = self.budget.seconds or 0.0
        left, largest = seconds - seconds_done, self.batch_size
        if left <= 0:
            return 0
        if self.budget.covers_scoring:
            largest = self._affordable(seconds) if self._scored else min(largest, FIRST_SCORED)
        fitting = (n for n in range(largest, 0, -1) if self._one_batch(n) * (1 + SAFETY) <= left)
        size = next(fitting, 0)
        return size if crystals_done else max(size, 1)

    def calibrate(self) -> None:
        """Makes `batch_size` smaller where that suits a budget of seconds better, from what was measured (the warm-up).

        It is halved until a batch is predicted to take no more than a fortieth of the budget, unless a crystal would
        then cost over a tenth more. Left alone where batches of one size alone were measured: they do not tell what a
        batch costs from what a crystal does.
        """
        if self.budget.seconds is not None and len(self._measured) > 1:
            self.batch_size = self._affordable(self.budget.seconds)

    def predicted(self, num_crystals: int) -> float:
        """Device seconds that many crystals would take, in batches of `batch_size`; 0 where nothing was measured."""
        full, rest = divmod(num_crystals, self.batch_size)
        return full * self._one_batch(self.batch_size) + (self._one_batch(rest) if rest else 0.0)

    def counts(self, end_s: float) -> bool:
        """Whether a batch that ended then is within the budget."""
        return self.budget.seconds is None or end_s <= self.budget.seconds

    def _affordable(self, seconds: float) -> int:
        """`batch_size` halved until a batch takes a fortieth of these seconds, but only as often as is efficient.

        Halved, not cut to fit: runs that measured a little other times choose the same size, and with the same seed
        sample the same crystals.
        """
        best = self._one_batch(self.batch_size) / self.batch_size
        size = self.batch_size
        while size > 1 and self._one_batch(size) > seconds / BUDGET_BATCHES:
            if self._one_batch(size // 2) > (1 + BATCH_LOSS) * best * (size // 2):
                break
            size //= 2
        return size

    def _one_batch(self, size: int) -> float:
        scoring = self._scoring_s / self._scored * size if self._scored else 0.0
        return predicted_seconds(self._points(), size) + scoring

    def _points(self) -> list[tuple[int, float]]:
        return sorted((size, median(seconds[-5:])) for size, seconds in self._measured.items())


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
