"""How many good crystals a model had given after so many device seconds, or network evaluations.

A crystal is there when its batch has ended. So the count at some cost is that of a run with this smaller budget, but
for its last batch, which such a run would have made smaller to fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.statistics import (
    CHUNK_CELLS,
    HIGH_QUANTILE,
    LOW_QUANTILE,
    RESAMPLES,
    Metric,
    combine,
    cost_per_hit,
    differ,
    wilson_bounds,
)

Axis = Literal["seconds", "end_to_end", "evaluations"]
Kind = Literal["valid", "stable", "sun", "vun"]
AXES: Mapping[Axis, str] = MappingProxyType(
    {
        "seconds": "device seconds",
        "end_to_end": "seconds of sampling and scoring",
        "evaluations": "network evaluations",
    }
)
GRID = 60  # places where a curve has a band
SINGLE_BATCHES = 200  # that are resampled one by one


@dataclass(frozen=True, eq=False)
class Repeat:
    """What one repeat had given, batch by batch; K batches that count.

    ends: (K,) cost at the end of each. crystals, hits: (K,) asked for in it, and those of them that count.
    spent: cost of all batches, also of one that ended too late to count. until: cost up to which the count is known.
    """

    ends: FloatArray
    crystals: IntArray
    hits: IntArray
    spent: float
    until: float

    def batches_by(self, cost: float) -> int:
        """Batches that had ended."""
        return int(np.searchsorted(self.ends, cost * (1 + 1e-12), side="right"))

    def rates(self, batches: Sequence[int], seed: int) -> list[Metric]:
        """Crystals that count per cost over the first so many batches, at least one, with the wider of two intervals.

        One is Wilson's of the crystals asked for in them. The other resamples these batches, hits and costs together
        (weights are exponential: Rubin 1981, doi:10.1214/aos/1176345338), so that crystals of one batch may depend on
        each other; it takes three batches. No later batch plays a part: a run that ended there has the same intervals.
        """
        found, asked = np.cumsum(self.hits), np.cumsum(self.crystals)
        relative = self._relative_errors(batches, seed)
        rates = []
        for count, (below, above) in zip(batches, relative, strict=True):
            hits, n, cost = int(found[count - 1]), int(asked[count - 1]), float(self.ends[count - 1])
            low, high = (float(bound) * n for bound in wilson_bounds(hits, n))
            rates.append(Metric(hits / cost, min(low, hits * below) / cost, max(high, hits * above) / cost, n))
        return rates

    def _relative_errors(self, counts: Sequence[int], seed: int) -> list[tuple[float, float]]:
        """Quantiles of the resampled hits per cost over the real ones, after these numbers of batches."""
        blocks = _block_ends(len(self.ends))
        hits = np.diff(np.cumsum(self.hits)[blocks - 1], prepend=0)
        costs = np.diff(self.ends[blocks - 1], prepend=0.0)
        kept = np.searchsorted(blocks, np.asarray(counts, dtype=np.int64), side="right") - 1
        rng = np.random.default_rng(seed)
        rows = max(1, CHUNK_CELLS // max(len(blocks), 1))
        parts = []
        for start in range(0, RESAMPLES, rows):
            weights = rng.standard_exponential((min(rows, RESAMPLES - start), len(blocks)))
            parts.append(np.cumsum(weights * hits, axis=1)[:, kept] / np.cumsum(weights * costs, axis=1)[:, kept])
        rates = np.concatenate(parts)
        few = np.array([_few_batches(count) for count in counts])
        real = np.cumsum(hits)[kept] / np.cumsum(costs)[kept]
        bounds = np.quantile(rates, [LOW_QUANTILE, HIGH_QUANTILE], axis=0)
        low, high = (bounds / np.where(real > 0, real, 1.0)) ** few
        return [(min(a, 1.0), max(b, 1.0)) if r > 0 else (1.0, 1.0) for a, b, r in zip(low, high, real, strict=True)]


def _few_batches(count: int) -> float:
    """By how much the resampling of a few batches has to be stretched: Student's t, and the variance of its weights.

    0 for fewer than three, which say next to nothing of how much batches differ.
    """
    from scipy.stats import norm, t

    if count < 3:
        return 0.0
    return float(t.ppf(HIGH_QUANTILE, count - 1) / norm.ppf(HIGH_QUANTILE) * np.sqrt((count + 1) / (count - 1)))


def _block_ends(batches: int) -> IntArray:
    """Numbers of batches at which blocks end that are resampled as one: single batches first, then 1 % more each."""
    single = np.arange(1, min(batches, SINGLE_BATCHES) + 1)
    if batches <= SINGLE_BATCHES:
        return single
    steps = round(np.log(batches / SINGLE_BATCHES) / np.log(1.01))
    return np.unique([*single, *np.geomspace(SINGLE_BATCHES, batches, steps + 1).round().astype(np.int64)])


@dataclass(frozen=True, eq=False)
class YieldCurve:
    """One model's crystals of one kind against one cost: means over its repeats.

    unknown: crystals that are not counted, as it is not known whether they are novel. budgeted: the run had seconds
    to spend, so that where no batch ended there is nothing, and not just nothing yet.
    """

    method: str
    kind: Kind
    axis: Axis
    repeats: tuple[Repeat, ...]
    seed: int
    unknown: int = 0
    budgeted: bool = False

    @property
    def first_end(self) -> float | None:
        """Cost by which every repeat has ended a batch, None where one never does."""
        ends = [repeat.ends[0] for repeat in self.repeats if len(repeat.ends)]
        return float(max(ends)) if len(ends) == len(self.repeats) else None

    @property
    def until(self) -> float:
        """Cost up to which every repeat is known."""
        return min(repeat.until for repeat in self.repeats)

    @property
    def hits(self) -> int:
        """Crystals that count, of all repeats together."""
        return sum(int(repeat.hits.sum()) for repeat in self.repeats)

    @cached_property
    def events(self) -> FloatArray:
        """Costs, ascending, at which a batch of some repeat ended."""
        ends = np.unique(np.concatenate([repeat.ends for repeat in self.repeats]))
        return np.asarray(ends[ends <= self.until], dtype=np.float64)

    @cached_property
    def grid(self) -> FloatArray:
        """Up to GRID of the events, evenly on a logarithmic scale of their number, from where each repeat has one."""
        if any(len(repeat.ends) == 0 or repeat.ends[0] > self.until for repeat in self.repeats):
            return np.zeros(0)
        events = self.events[self.events >= max(repeat.ends[0] for repeat in self.repeats)]
        places = np.unique(np.geomspace(1, len(events), GRID).round().astype(np.int64)) - 1
        return np.asarray(events[places], dtype=np.float64)

    def counts(self, costs: FloatArray) -> FloatArray:
        """Crystals that count by these costs, without intervals."""
        total = np.zeros(len(costs))
        for repeat in self.repeats:
            found = np.concatenate([[0], np.cumsum(repeat.hits)])
            total += found[np.searchsorted(repeat.ends, costs * (1 + 1e-12), side="right")]
        return total / len(self.repeats)

    def readings(self, costs: Sequence[float] | FloatArray) -> list[Metric]:
        """Crystals that count by these costs. n: crystals asked for by then, of all repeats together.

        The interval is that of crystals per cost over the batches until then, which does not depend on how close to
        its next end each repeat's batch was. None where a repeat has no batch yet.
        """
        counts = self.counts(np.asarray(costs, dtype=np.float64))
        ended = np.array([[repeat.batches_by(cost) for cost in costs] for repeat in self.repeats]).T
        whole = np.array([bool(row.all()) for row in ended], dtype=bool)
        rates = iter(self._rates(ended[whole]))
        readings = []
        for count, row, has_interval in zip(counts, ended, whole, strict=True):
            asked = sum(int(repeat.crystals[:n].sum()) for repeat, n in zip(self.repeats, row, strict=True))
            if not has_interval:
                readings.append(Metric(float(count), n=asked))
                continue
            rate = next(rates)
            # Where none was found, the bound on the rate is one on the count after the mean cost of these batches.
            cost = np.mean([repeat.ends[n - 1] for repeat, n in zip(self.repeats, row, strict=True)])
            per_rate = float(count / rate.value if rate.value else cost)
            low, high = ((bound or 0.0) * per_rate for bound in (rate.low, rate.high))
            readings.append(Metric(float(count), low, high, asked))
        return readings

    def _rates(self, batches: IntArray) -> list[Metric]:
        """Crystals that count per cost. batches: (any, repeats) numbers of batches, at least 1, to compute it from."""
        by_repeat = [
            repeat.rates(batches[:, place].tolist(), self.seed + place) for place, repeat in enumerate(self.repeats)
        ]
        return [combine(rates) for rates in zip(*by_repeat, strict=True)]

    def expected_cost(self, number: int) -> Metric:
        """Cost until so many crystals that count: everything spent over all that were found, times their number.

        The expected running time of optimisation benchmarks (Hansen et al. 2009, inria-00362633, section 4): what a
        repeat spent counts whether it found one or not. Where none was found, only the one-sided bound.
        """
        spent = sum(repeat.spent for repeat in self.repeats)
        asked = sum(int(repeat.crystals.sum()) for repeat in self.repeats)
        if not self.hits:
            bound = cost_per_hit(spent, 0, asked).low
            return Metric(None, None if bound is None else number * bound, None, asked)
        value = number * spent / self.hits
        [rate] = self._rates(np.array([[len(repeat.hits) for repeat in self.repeats]]))
        mean, low, high = rate.value or 0.0, rate.low or 0.0, rate.high or 0.0
        return Metric(value, value * mean / high, value * mean / low if low else None, asked)

    def observed_cost(self, number: int) -> tuple[float | None, int]:
        """Cost spent until the n-th crystal that counts, over the repeats that came so far; how many did.

        A repeat that did not adds all that it spent. None where none did.
        """
        total, reached = 0.0, 0
        for repeat in self.repeats:
            found = np.cumsum(repeat.hits)
            if len(found) and found[-1] >= number:
                total += float(repeat.ends[np.searchsorted(found, number)])
                reached += 1
            else:
                total += repeat.spent
        return (total / reached if reached else None), reached


@dataclass(frozen=True)
class Lead:
    """Which of two models has more crystals. changes: costs at which another one came to lead, in order.

    leader: at the end, None for a tie. sure_from: cost from which on its lead is beyond noise, None where it is not.
    empty: the one that has no batch yet, as far as both are known: nothing is known of its noise.
    """

    one: str
    other: str
    leader: str | None
    changes: tuple[float, ...]
    sure_from: float | None
    empty: str | None = None


def lead(one: YieldCurve, other: YieldCurve) -> Lead:
    """Where the curves of two models cross, as far as both are known."""
    until = min(one.until, other.until)
    events = np.unique(np.concatenate([one.events, other.events]))
    events = events[events <= until]
    ahead = np.sign(one.counts(events) - other.counts(events))
    strict = ahead != 0
    leaders, costs = ahead[strict], events[strict]
    turns = [0, *(np.flatnonzero(np.diff(leaders)) + 1)] if len(leaders) else []
    sign = ahead[-1] if len(ahead) else 0.0
    grid = np.unique(np.concatenate([one.grid, other.grid]))
    grid = grid[grid <= until]
    sure_from = None
    pairs = list(zip(grid, one.readings(grid), other.readings(grid), strict=True)) if sign else []
    for cost, first, second in reversed(pairs):
        same_leader = np.sign((first.value or 0.0) - (second.value or 0.0)) == sign
        if not (same_leader and _has_interval(first) and _has_interval(second) and differ(first, second)):
            break
        sure_from = float(cost)
    leader = {1.0: one.method, -1.0: other.method}.get(float(sign))
    empty = next((curve.method for curve in (one, other) if not (curve.grid <= until).any()), None)
    return Lead(one.method, other.method, leader, tuple(float(costs[turn]) for turn in turns), sure_from, empty)


def _has_interval(metric: Metric) -> bool:
    return metric.low is not None and metric.high is not None
