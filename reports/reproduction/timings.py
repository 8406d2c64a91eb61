"""Device seconds from runs on a quiet machine, in place of those of runs that were sampled beside other work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.statistics import Metric
from reports.reproduction.speedups import once_each
from reports.run_results import ModelResult

TIMES = ("seconds_per_crystal", "undisturbed_share")


def timed(results: Sequence[ModelResult], timings: Sequence[ModelResult]) -> list[ModelResult]:
    """The results with the seconds per crystal of the runs that timed the same models; without such a run, none.

    Whether the machine was free is said of the same seconds.
    """
    datasets = {timing.run.dataset for timing in timings}
    of = {dataset: once_each([t for t in timings if t.run.dataset == dataset]) for dataset in datasets}

    def own(result: ModelResult) -> dict[str, Metric]:
        timing = of.get(result.run.dataset, {}).get(result.model)
        return {name: Metric(None) if timing is None else timing.metrics.get(name, Metric(None)) for name in TIMES}

    return [
        result if result.is_control else replace(result, metrics={**result.metrics, **own(result)})
        for result in results
    ]
