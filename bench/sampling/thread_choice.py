"""How many threads sample where nobody says it: measured on this machine with these networks, and remembered."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from bench import model_specs
from bench.arrays import IntArray
from bench.atomic import write_json
from bench.datasets import DataUnavailable
from bench.datasets.parsed import cache_dir
from bench.device import describe_device, named_threads, set_threads
from bench.interfaces import Generator, StructurePredictor
from bench.model_specs import ModelSpec
from bench.prediction.compositions import of_round
from bench.progress import say
from bench.sampling.usage import Meter, available_cores

FEW_STEPS = 4  # of a sampler: enough calls of its network
WORTH_IT = 0.1  # more threads must be faster by this share: they take cores from whoever else needs them
ROUNDS = 3
LONG_S = 2.0  # a sample that takes longer is measured once for each number of threads
Seconds = Mapping[int, float]  # by number of threads


@dataclass(frozen=True)
class Measured:
    """A network whose best number of threads is asked for. batch_size: crystals at a time.

    compositions: (N_i,) atomic numbers of what it predicts structures for, if that is what it does.
    """

    spec: ModelSpec
    dataset: str
    preset: str
    batch_size: int
    compositions: Sequence[IntArray] | None = None


def choose_threads(models: Sequence[Measured], device: str = "cpu") -> int:
    """Threads for sampling these models on this machine: one number, so that their times compare.

    OMP_NUM_THREADS where it is set. Else the smallest of 1, 2, 4 .. cores that is within a tenth of the fastest, by
    the mean over the models; 1 on a GPU. Measuring takes seconds, once for each model and machine.
    """
    named = named_threads()
    if named is not None:
        return named
    counts = thread_counts(available_cores())
    if device != "cpu" or len(counts) == 1:
        return 1
    found = [seconds for model in models if (seconds := _seconds(model, counts))]
    threads = best_threads(found, counts)
    if found:
        say(f"threads: {threads}, the best of {', '.join(map(str, counts))} by measurement; --threads sets another")
    return threads


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4 and so on, and the cores."""
    powers = [2**power for power in range(cores.bit_length()) if 2**power <= cores]
    return sorted({*powers, cores})


def best_threads(measured: Sequence[Seconds], counts: Sequence[int]) -> int:
    """The smallest count within a tenth of the fastest, by the geometric mean over models; 1 where none is measured."""
    if not measured:
        return 1
    means = {n: sum(math.log(seconds[n]) for seconds in measured) / len(measured) for n in counts}
    return next(n for n in counts if means[n] <= min(means.values()) + math.log1p(WORTH_IT))


def measure(
    generator: Generator, batch_size: int, counts: Sequence[int], compositions: Sequence[IntArray] | None = None
) -> Seconds:
    """Shortest seconds of sampling a batch with each number of threads. The generator must be loaded.

    A count that is over twice as slow as the best of the smaller ones ends the measurement: larger ones stand as that.
    """
    seconds: dict[int, float] = {}
    for threads in counts:
        if seconds and seconds[max(seconds)] > 2 * min(seconds.values()):
            seconds[threads] = seconds[max(seconds)]
            continue
        set_threads(threads)
        _sample(generator, 1, compositions)  # wakes the threads
        for _ in range(ROUNDS):
            started = time.perf_counter()
            _sample(generator, batch_size, compositions)
            taken = max(time.perf_counter() - started, 1e-9)
            seconds[threads] = min(seconds.get(threads, taken), taken)
            if taken > LONG_S:
                break
    return seconds


def _sample(generator: Generator, size: int, compositions: Sequence[IntArray] | None) -> None:
    if compositions is None:
        generator.sample(num_crystals=size, seed=0)
    else:
        asked = of_round(compositions, 0, size)
        cast(StructurePredictor, generator).sample_given(compositions=asked, seed=0)


def _seconds(model: Measured, counts: Sequence[int]) -> Seconds | None:
    """Measured or remembered; None of a model that has no network of torch here, or cannot be built."""
    if model.spec.is_file or not model.spec.builtin:
        return None  # what others' models do with threads is theirs: --threads sets it
    try:
        few_steps = replace(model.spec, steps=FEW_STEPS, compiled=False)
        generator = model_specs.build_generator(few_steps, model.dataset, model.preset)
    except (ValueError, DataUnavailable):
        return None  # a control, which has no steps; or the run will say what is missing
    place = cache_dir() / "threads" / f"{_key(model, generator)}.json"
    with suppress(OSError, ValueError, KeyError):
        stored = json.loads(place.read_text(encoding="utf-8"))["seconds"]
        return {n: float(stored[str(n)]) for n in counts}
    generator.load("cpu")
    meter = Meter()
    meter.start()
    seconds = measure(generator, model.batch_size, counts, model.compositions)
    if not meter.stop().disturbed:  # measured beside other work it holds for this run alone
        with suppress(OSError):  # it is measured again, then
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {"model": model.spec.text, "seconds": {str(n): s for n, s in seconds.items()}})
    return seconds


def _key(model: Measured, generator: Generator) -> str:
    """Names network and machine."""
    import torch

    card: Any = getattr(generator, "card", None) or {}
    weights = getattr(generator, "weights", None)
    parts = [
        model.spec.target,
        model.dataset,
        model.preset,
        str(model.batch_size),
        str(card.get("sha256") if isinstance(card, dict) else None),
        Path(weights).name if weights else "",
        json.dumps(describe_device("cpu"), sort_keys=True),
        str(available_cores()),
        torch.__version__,
        os.environ.get("OMP_WAIT_POLICY", ""),
        *([] if model.compositions is None else ["predicts structures"]),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
