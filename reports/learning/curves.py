"""The curves of a run of `bench learn`, times to reach a target, and totals of training, sampling and relaxation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Literal

import numpy as np

from bench.statistics import Metric
from bench.store import Run
from reports.run_results import METHODS, method_of

Kind = Literal["stable", "valid"]
MOST_CRYSTALS = 10**7  # up to which crossings are looked for
SHARE = 0.95  # of valid crystals, in targets


@dataclass(frozen=True)
class Point:
    """The snapshots of all seeds at one time.

    seconds: device seconds of training, mean of the seeds. seed_seconds, by_seed: seconds and figures of each seed.
    """

    seconds: float
    metrics: Mapping[str, Metric]
    seed_seconds: Sequence[float]
    by_seed: Sequence[Mapping[str, float | None]]


@dataclass(frozen=True)
class LearningCurve:
    """One sampler on the snapshots of one model. training: the model, with its factor of the learning rate."""

    key: str
    training: str
    points: Sequence[Point]
    factor: float = 1.0

    @property
    def method(self) -> str:
        """The key with our models' names as their papers write them."""
        return method_of(self.key)


def read_curves(folder: Path) -> list[LearningCurve]:
    """The curves of a finished run. ValueError where the folder holds none, or one of another command."""
    run = Run.open(folder)
    if "learning" not in run.manifest:
        raise ValueError(f"{folder}: no run of `bench learn`")
    entries = run.summary()["models"]
    curves = []
    try:
        for key, members in groupby(entries.values(), key=lambda entry: entry["snapshot"]["curve"]):
            own = list(members)
            factor = own[0]["snapshot"]["factor"]
            model = own[0]["snapshot"]["model"]
            training = METHODS.get(model, model) + ("" if factor == 1 else f", learning rate x{factor:g}")
            points = [
                Point(
                    float(np.mean(entry["snapshot"]["train_seconds"])),
                    {name: Metric.from_json(figure) for name, figure in entry["metrics"].items()},
                    entry["snapshot"]["train_seconds"],
                    entry["by_seed"],
                )
                for entry in own
            ]
            curves.append(LearningCurve(key, training, points, factor))
    except (KeyError, TypeError, AttributeError) as error:
        remedy = f"write it anew with `python -m bench rescore {folder}`"
        raise ValueError(f"{folder}: summary.json is damaged ({error!r}); {remedy}") from error
    return curves


@dataclass(frozen=True)
class Condition:
    """A metric that must reach a limit. limit: a number, or the name of a metric whose upper bound it is.

    higher: whether more is better.
    """

    metric: str
    limit: float | str
    higher: bool = True

    def met(self, point: Point, seed: int) -> bool:
        """Whether one seed's snapshot meets it; not where the figure or the limit is unknown."""
        value = point.by_seed[seed].get(self.metric)
        limit: float | None
        if isinstance(self.limit, str):
            floor = point.metrics.get(self.limit)
            limit = None if floor is None else floor.bounds[1]
        else:
            limit = self.limit
        if value is None or limit is None:
            return False
        return value >= limit if self.higher else value <= limit


BOTH = (Condition("valid_composition", SHARE), Condition("valid_structure", SHARE))
FLOORS = (
    Condition("emd_density", "emd_density_floor", higher=False),
    Condition("emd_num_elements", "emd_num_elements_floor", higher=False),
)
# Validity alone is soon met, and lost again: cells of a hardly trained network are wide, and their atoms far apart.
TARGETS: Mapping[str, Sequence[Condition]] = {
    "80 % valid": (Condition("valid", 0.8),),
    "95 % valid compos. and struct.": BOTH,
    "both EMDs at their floor": FLOORS,
    "all of it": (*BOTH, *FLOORS),
}


@dataclass(frozen=True)
class TimeToTarget:
    """When a target was first seen to be met. reached: of so many seeds.

    expected: device seconds of training of all seeds until then, or to their end, over the seeds that reached it; None
    where none did. least: at least so many seconds then: the shortest training that did not reach it.
    """

    reached: int
    seeds: int
    expected: float | None
    least: float | None


def time_to_target(curve: LearningCurve, conditions: Sequence[Condition]) -> TimeToTarget:
    """From the first snapshot of each seed that meets all conditions; a seed without one is censored at its last.

    The expected time is that of restarting until it is met: Auger and Hansen 2005, "Performance evaluation of an
    advanced local search evolutionary algorithm". A snapshot tells that a target was met by then, not since when.
    """
    seeds = len(curve.points[-1].seed_seconds)
    spent: list[float] = []
    missed: list[float] = []
    for seed in range(seeds):
        hit = next((p for p in curve.points if all(c.met(p, seed) for c in conditions)), None)
        spent.append((hit or curve.points[-1]).seed_seconds[seed])
        if hit is None:
            missed.append(spent[-1])
    reached = seeds - len(missed)
    return TimeToTarget(reached, seeds, sum(spent) / reached if reached else None, min(missed, default=None))


def cost_per_crystal(point: Point, kind: Kind) -> Metric:
    """Device seconds of one more crystal from a snapshot: sampling and scoring of a stable, sampling of a valid one.

    Undefined where none was found.
    """
    if kind == "stable":
        return point.metrics.get("seconds_per_stable_end_to_end", Metric(None))
    each, rate = point.metrics.get("seconds_per_crystal"), point.metrics.get("valid")
    if each is None or rate is None or not each.value or not rate.value:
        return Metric(None)
    low = each.value / rate.high if rate.high else None
    return Metric(each.value / rate.value, low, each.value / rate.low if rate.low else None, rate.n)


@dataclass(frozen=True)
class Offer:
    """One way to crystals: a snapshot with a sampler. fixed: seconds of training. each: of one more crystal."""

    curve: LearningCurve
    fixed: float
    each: Metric

    def total(self, crystals: float) -> float:
        """Seconds for so many."""
        return self.fixed + crystals * (self.each.value or 0.0)


def kind_of_crystals(curves: Sequence[LearningCurve]) -> Kind:
    """Stable crystals where any were found, else valid ones."""
    found = any(cost_per_crystal(point, "stable").value for curve in curves for point in curve.points)
    return "stable" if found else "valid"


def offers(curves: Sequence[LearningCurve], kind: Kind) -> dict[str, list[Offer]]:
    """All ways to crystals of each training, with every sampler and snapshot that gave one."""
    found: dict[str, list[Offer]] = {}
    for curve in curves:
        own = found.setdefault(curve.training, [])
        for point in curve.points:
            each = cost_per_crystal(point, kind)
            if each.value:
                own.append(Offer(curve, point.seconds, each))
    return {training: own for training, own in found.items() if own}


def best_offer(ways: Sequence[Offer], crystals: float) -> Offer:
    """The one that takes the fewest seconds for so many crystals."""
    return min(ways, key=lambda offer: offer.total(crystals))


@dataclass(frozen=True)
class Crossing:
    """From `crystals` on, `cheaper` takes fewer seconds than `dearer`; 1 where it does from the first."""

    cheaper: str
    dearer: str
    crystals: float


def crossings(found: Mapping[str, Sequence[Offer]]) -> list[Crossing]:
    """For each pair of trainings, which is cheaper for one crystal, and each number at which that changes."""
    result = []
    grid = np.geomspace(1, MOST_CRYSTALS, 2000)
    for one, other in combinations(found, 2):

        def difference(crystals: float, one: str = one, other: str = other) -> float:
            mine, theirs = (best_offer(found[name], crystals).total(crystals) for name in (one, other))
            return mine - theirs

        values = np.array([difference(k) for k in grid])
        lead = values[0] <= 0
        result.append(Crossing(one, other, 1.0) if lead else Crossing(other, one, 1.0))
        for k in np.flatnonzero((values[1:] <= 0) != (values[:-1] <= 0)):
            lead = not lead
            at = _bisected(difference, float(grid[k]), float(grid[k + 1]))
            result.append(Crossing(one, other, at) if lead else Crossing(other, one, at))
    return result


def _bisected(difference: Callable[[float], float], low: float, high: float) -> float:
    """Where a difference of totals, which is piecewise linear, changes its sign between two numbers."""
    from scipy.optimize import brentq

    return float(brentq(difference, low, high))
