"""`bench plan`: how many crystals, and how much device time, a difference takes to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import model_specs
from bench.budget import BatchPlanner, Budget, device_clock, timed_batch_size
from bench.datasets import canonical_name
from bench.device import resolve_device
from bench.progress import format_seconds
from bench.sample_size import POWER, crystals_for_costs, crystals_for_difference
from bench.sampling.sources import CALIBRATION_SIZE, CPU_WARMUP_SIZE, GeneratorSource, declared_batch_size
from bench.sampling.thread_choice import Measured, choose_threads
from bench.store import Run


@dataclass(frozen=True)
class Planned:
    """What is asked for: a difference of rates, a ratio of costs, or both. rate: share of crystals that are hits."""

    rate: float
    difference: float | None = None
    cost_ratio: float | None = None
    power: float = POWER

    def sizes(self) -> dict[str, int]:
        """What is to be shown, in words -> crystals of each model. ValueError where nothing is, or it cannot be."""
        if self.difference is None and self.cost_ratio is None:
            raise ValueError("bench plan needs --difference, such as 0.05, or --cost-ratio, such as 1.25")
        sizes = {}
        if self.difference is not None:
            about = f"rates {100 * self.difference:g} percentage points apart, near {100 * self.rate:g} %"
            sizes[about] = crystals_for_difference(self.rate, self.difference, self.power)
        if self.cost_ratio is not None:
            about = f"costs a hit {self.cost_ratio:g} times apart, near a rate of {100 * self.rate:g} %"
            sizes[about] = crystals_for_costs(self.rate, self.cost_ratio, self.power)
        return sizes


def plan(asked: Planned, run: Path | None, models: str, dataset: str, preset: str, device: str) -> str:
    """Crystals for each difference, and the device time that they take with each model.

    run: a finished run whose times are taken; None: each model samples a few crystals here and now.
    """
    sizes = asked.sizes()
    times = _times_of_run(run, list(sizes.values())) if run else _measured(models, dataset, preset, device, sizes)
    where = f"by the times of {run}" if run else f"predicted from a few crystals sampled now, {dataset}"
    lines = [f"To be seen with a power of {100 * asked.power:g} % (two models, one comparison at 5 %):"]
    for about, number in sizes.items():
        lines.append(f"{about}: {number} crystals of each model (--num-samples {number})")
        lines += [f"  {name}: {format_seconds(seconds[number])} of device time" for name, seconds in times.items()]
    if not times:
        return "\n".join([*lines, f"{run}: no device time is known of its models"])
    return "\n".join([*lines, f"Device time: sampling alone, {where}."])


def _times_of_run(root: Path, numbers: Sequence[int]) -> dict[str, dict[int, float]]:
    """Model -> number of crystals -> seconds."""
    found = {name: entry["metrics"]["seconds_per_crystal"]["value"] for name, entry in Run.open(root).results().items()}
    return {name: {n: n * value for n in numbers} for name, value in found.items() if value is not None}


def _measured(
    models: str, dataset: str, preset: str, device: str, sizes: dict[str, int]
) -> dict[str, dict[int, float]]:
    """The same, predicted as the calibration of a budget does it."""
    kind, dataset = resolve_device(device), canonical_name(dataset)
    specs = [spec for spec in model_specs.parse_models(models) if not spec.is_file]
    generators = [model_specs.build_generator(spec, dataset, preset) for spec in specs]
    batches = [declared_batch_size(generator, kind) for generator in generators]
    measured = [Measured(spec, dataset, preset, size) for spec, size in zip(specs, batches, strict=True)]
    threads = choose_threads(measured, kind)
    times: dict[str, dict[int, float]] = {}
    for spec, generator, own in zip(specs, generators, batches, strict=True):
        few = min(CALIBRATION_SIZE, own)
        warmup = (CPU_WARMUP_SIZE, CPU_WARMUP_SIZE, few) if kind == "cpu" else (own, few, own)
        source = GeneratorSource(generator.name, generator, kind, threads, 0, warmup, device_clock(kind))
        seconds = dict(source.prepare().warmup)
        times[spec.name or generator.name] = {}
        for number in sizes.values():
            budget = Budget(num_samples=number)
            planner = BatchPlanner(budget, timed_batch_size(own, budget))
            for size, taken in seconds.items():
                planner.measured(size, taken)
            times[spec.name or generator.name][number] = planner.predicted(number)
    return times
