"""`bench sample`: a model's crystals in a file."""

from __future__ import annotations

from pathlib import Path

from bench import model_specs
from bench.budget import BatchPlanner, Budget, device_clock, timed_batch_size
from bench.crystal_io import write_crystals
from bench.crystal_io.writing import known_ending
from bench.crystals import FilteredCrystals
from bench.datasets import canonical_name
from bench.device import resolve_device
from bench.progress import progress
from bench.run_folder.ledger import kind_of_reason
from bench.sampling.sources import GeneratorSource, declared_batch_size
from bench.sampling.thread_choice import Measured, choose_threads


def sample_file(
    model: str,
    dataset: str,
    num_samples: int,
    out: Path,
    preset: str,
    device: str,
    seed: int,
    threads: int | None,
    compile: bool = False,
) -> str:
    """Writes the crystals that a run with this seed has; gives a line that says how many, and why not all.

    ValueError, before anything is sampled, where `out` exists or has an unknown ending, or the model does not sample.
    """
    specs = model_specs.parse_models(model)
    if len(specs) != 1 or specs[0].is_file:
        raise ValueError(f"--model {model!r}: name one model that samples; `bench models` lists them")
    if compile:
        specs = model_specs.with_compiled(specs)
    if out.exists():
        raise ValueError(f"{out} exists; choose another --out")
    known_ending(out)
    budget = Budget(num_samples=num_samples)
    device = resolve_device(device)
    dataset = canonical_name(dataset)
    generator = model_specs.build_generator(specs[0], dataset, preset)
    size = timed_batch_size(declared_batch_size(generator, device), budget)
    planner = BatchPlanner(budget, size)
    if threads is None:
        threads = choose_threads([Measured(specs[0], dataset, preset, min(size, num_samples))], device)
    source = GeneratorSource(generator.name, generator, device, threads, seed, (), device_clock(device))
    out.parent.mkdir(parents=True, exist_ok=True)
    source.load()
    parts: list[FilteredCrystals] = []
    done = 0
    with progress(f"{model}: sampling", num_samples, "crystals") as advance:
        while size := planner.next_size(done, 0.0):
            parts.append(source.draw(0, len(parts), done, size).filtered)
            done += size
            advance(size, size)
    filtered = FilteredCrystals.concatenate(parts)
    write_crystals(filtered.crystals, out)
    lost = {kind_of_reason(reason) for reason in filtered.reasons.values()}
    return f"{out}: {len(filtered.crystals)} crystals" + (
        f"; {len(filtered.reasons)} of {num_samples} could not be made ({'; '.join(sorted(lost)[:3])})" if lost else ""
    )
