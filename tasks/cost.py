"""What crystals cost: device seconds, network evaluations and steps, per crystal and per stable crystal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.statistics import Metric, cost_per_hit, ratio_of_sums, seconds_per_crystal

JOULES_PER_WH = 3600.0
PAPER_SAMPLES = 1000  # the paper's steps / stable is the steps of one crystal over the stable ones among this many


@dataclass(frozen=True)
class Spent:
    """What K batches took. All (K,), NaN where unknown: crystals from a file have no seconds.

    seconds: on the device clock. evaluations: of the network, all crystals of a batch together. steps: of the
    sampler. crystals: asked for. counted: ended within the budget. repeats: start of the model, from 0.
    """

    seconds: FloatArray
    evaluations: FloatArray
    steps: FloatArray
    crystals: FloatArray
    counted: BoolArray
    repeats: IntArray

    @classmethod
    def of(cls, batches: pa.Table) -> Spent:
        """From the columns start_s, end_s, network_evaluations, steps, num_crystals, counted and, if there, repeat."""

        def numbers(name: str) -> FloatArray:
            return np.array([np.nan if v is None else v for v in batches[name].to_pylist()], dtype=np.float64)

        counted = np.array(batches["counted"].to_pylist(), dtype=bool)
        return cls(
            numbers("end_s") - numbers("start_s"),
            numbers("network_evaluations"),
            numbers("steps"),
            numbers("num_crystals"),
            counted,
            numbers("repeat").astype(np.int64)
            if "repeat" in batches.column_names
            else np.zeros(len(counted), np.int64),
        )

    @property
    def mean_steps(self) -> float | None:
        """Steps of a counted crystal, None where unknown."""
        crystals = self.crystals[self.counted]
        return _known((self.steps[self.counted] * crystals).sum() / crystals.sum()) if crystals.sum() else None


def cost_metrics(
    batches: pa.Table,
    requested: int,
    stable: ArrayLike | None = None,
    scoring_seconds: float | None = None,
    seed: int = 0,
) -> dict[str, Metric]:
    """The cost metrics of one model, all its repeats together.

    batches: as `Spent.of` reads them. requested: crystals asked for in counted batches. stable, scoring_seconds: see
    `costs_per_stable`. What is unknown or undefined has the value None; sums have no interval.
    ValueError where batches, requested and stable do not belong together.
    """
    spent = Spent.of(batches)
    in_batches = int(spent.crystals[spent.counted].sum())
    if in_batches != requested:
        raise ValueError(f"{requested} crystals requested, but the counted batches have {in_batches}")
    if stable is not None and np.size(stable) != requested:
        raise ValueError(f"{requested} crystals requested, but stability is known of {np.size(stable)}")
    counted_seconds = spent.seconds[spent.counted]
    return {
        "steps": Metric(spent.mean_steps, n=requested),
        "network_evaluations": _evaluations(spent, seed),
        "seconds_per_crystal": time_per_crystal(spent, seed),
        "sampling_seconds": Metric(_known(spent.seconds.sum()), n=len(spent.seconds)),
        "counted_seconds": Metric(_known(counted_seconds.sum()), n=len(counted_seconds)),
        **costs_per_stable(batches, stable, scoring_seconds),
        **machine_costs(batches, stable),
    }


def machine_costs(batches: pa.Table, stable: ArrayLike | None) -> dict[str, Metric]:
    """What the crystals took of the machine besides time, and whether it was free.

    undisturbed_share: of the seconds of counted batches of which it is known. peak_memory_bytes: the most that the
    process held, peak_device_memory_bytes: the GPU. energy_wh: of all batches, by the device's counter. Memory and
    energy also for each stable crystal. Undefined where no batch says it, or for energy not all of them.
    """

    def column(name: str) -> FloatArray:
        if name not in batches.column_names:
            return np.full(batches.num_rows, np.nan)
        return np.array([np.nan if v is None else v for v in batches[name].to_pylist()], dtype=np.float64)

    spent, disturbed = Spent.of(batches), column("disturbed")
    told = spent.counted & np.isfinite(disturbed) & np.isfinite(spent.seconds)
    seconds = spent.seconds[told]
    undisturbed = float((seconds * (1 - disturbed[told])).sum() / seconds.sum()) if seconds.sum() else None
    peaks = {name: column(name) for name in ("peak_memory_bytes", "peak_device_memory_bytes")}
    most = {name: float(np.nanmax(peak)) if np.isfinite(peak).any() else None for name, peak in peaks.items()}
    joules = column("energy_j")
    energy = None if not len(joules) else _known(joules.sum() / JOULES_PER_WH)
    n = len(joules)
    metrics = {name: Metric(value, n=n) for name, value in {**most, "energy_wh": energy}.items()}
    is_hit = None if stable is None else np.asarray(stable, dtype=bool)
    for name in ("peak_memory_bytes", "energy_wh"):
        value, asked = metrics[name].value, 0 if is_hit is None else len(is_hit)
        per_stable = Metric(None, n=asked)
        if is_hit is not None and value is not None:
            per_stable = cost_per_hit(value, int(is_hit.sum()), asked)
        metrics[f"{name}_per_stable"] = per_stable
    return {"undisturbed_share": Metric(undisturbed, n=int(told.sum())), **metrics}


def costs_per_stable(
    batches: pa.Table, stable: ArrayLike | None, scoring_seconds: float | None = None, potential: str | None = None
) -> dict[str, Metric]:
    """What a stable crystal costs: everything spent, batches that do not count included, over the stable crystals.

    steps_per_stable is the paper's: steps of one crystal over the stable ones among 1000, at any number of crystals.
    scoring_seconds: of relaxing and all other scoring, for the cost end to end. stable: (requested,) bool, or None.
    potential: the names get [potential], for a second one. Intervals are those of the stable rate.
    """
    is_hit = None if stable is None else np.asarray(stable, dtype=bool)
    n = 0 if is_hit is None else len(is_hit)
    costs = _costs(batches, n, scoring_seconds)
    suffix = "" if potential is None else f"[{potential}]"
    return {
        name + suffix: Metric(None, n=n) if is_hit is None or cost is None else cost_per_hit(cost, int(is_hit.sum()), n)
        for name, cost in costs.items()
    }


def costs_per_calibrated(batches: pa.Table, rate: Metric, scoring_seconds: float | None = None) -> dict[str, Metric]:
    """As `costs_per_stable`, over the crystals that DFT would call stable: names end in _calibrated.

    rate: their share of all requested, `stable_rate_calibrated`, whose interval these have.
    """

    def per_stable(cost: float | None, share: float | None) -> float | None:
        return cost / (rate.n * share) if cost is not None and share and rate.n else None

    return {
        f"{name}_calibrated": Metric(
            per_stable(cost, rate.value), per_stable(cost, rate.high), per_stable(cost, rate.low), rate.n
        )
        for name, cost in _costs(batches, rate.n, scoring_seconds).items()
    }


def _costs(batches: pa.Table, n: int, scoring_seconds: float | None) -> dict[str, float | None]:
    """What was spent on n crystals, by the name of the metric that divides it by the stable ones among them."""
    spent = Spent.of(batches)
    steps, seconds = spent.mean_steps, _known(spent.seconds.sum())
    whole = None if seconds is None or scoring_seconds is None else seconds + scoring_seconds
    return {
        "steps_per_stable": None if steps is None else steps * n / PAPER_SAMPLES,
        "evaluations_per_stable": _known(spent.evaluations.sum()),
        "seconds_per_stable": seconds,
        "seconds_per_stable_end_to_end": whole,
    }


def costs_per_match(batches: pa.Table, match_rates: Mapping[str, Metric]) -> dict[str, Metric]:
    """What a composition costs of which structures were predicted, and one whose structure is matched.

    match_rates: "match_rate", after everything that was spent, and "match_rate_K", after K samples of each of the n
    compositions; the names of the costs end likewise. Undefined where seconds are unknown. Intervals are those of the
    rates. Within a batch, each crystal is taken to cost the same.
    """
    spent = Spent.of(batches)
    ends = np.concatenate([[0.0], np.cumsum(spent.seconds)])
    rows = np.concatenate([[0.0], np.cumsum(spent.crystals)])
    costs = {}
    for name, rate in match_rates.items():
        suffix, n = name.removeprefix("match_rate"), rate.n
        cost = float(np.interp(int(suffix[1:]) * n, rows, ends)) if suffix else float(ends[-1])
        known = _known(cost)
        costs[f"seconds_per_composition{suffix}"] = Metric(None if known is None or not n else known / n, n=n)
        per_match = Metric(None, n=n)
        if known is not None and rate.value is not None:
            per_match = cost_per_hit(known, round(rate.value * n), n)
        costs[f"seconds_per_match{suffix}"] = per_match
    return costs


def time_per_crystal(spent: Spent, seed: int = 0) -> Metric:
    """Seconds of a crystal over counted batches, with an interval over them and over repeats; n: their number."""
    seconds = spent.seconds[spent.counted]
    if not np.isfinite(seconds).all():
        return Metric(None, n=len(seconds))
    return seconds_per_crystal(seconds, spent.crystals[spent.counted], seed, spent.repeats[spent.counted])


def _evaluations(spent: Spent, seed: int) -> Metric:
    """Network evaluations of a crystal over counted batches."""
    evaluations = spent.evaluations[spent.counted]
    if not np.isfinite(evaluations).all():
        return Metric(None, n=len(evaluations))
    return ratio_of_sums(evaluations, spent.crystals[spent.counted], seed)


def _known(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
