"""`make gpu`: what needs a GPU, in one report: tests on CUDA, the main job, speed and memory at the paper's size.

Without a GPU it says so and ends well. `python -m tests.perf.gpu REPORT.md`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.compiled import compile_networks
from models.diffusion import SeededNoise
from models.presets import preset

SIZES = (100, 500, 2000)  # crystals at a time
STEPS = 20
MODELS = ("crysldm", "diffcsp")
ATOMS = {"perov5": 5, "mp20": 10}
SIZED = ("cpu", "paper")
HEADER = (
    "| model | crystals | plain, ms/step | compiled, ms/step | times as fast | plain, GiB | compiled | compiling, s |",
    "|---|---|---|---|---|---|---|---|",
)
TESTED = (
    "tests/models/test_fake_cuda.py",
    "tests/models/test_compiled.py",
    "tests/models/training/test_fake_cuda_training.py",
    "tests/tasks/test_fake_cuda_relaxation.py",
)
TESTS = ("-m", "pytest", "-q", *TESTED)


def missing() -> str:
    """Why there is nothing to do here; empty on a machine with a GPU."""
    if torch.cuda.is_available():
        return ""
    built = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no CUDA device"
    return f"make gpu: skipped, {built} here"


@dataclass(frozen=True)
class Measured:
    """What sampling took. step_s: seconds of a step. memory_gib: of the device at most."""

    step_s: float
    memory_gib: float


def sampling(model: Any, num_atoms: int, size: int, device: str = "cuda", steps: int = STEPS) -> Measured:
    """Of `size` crystals at a time, by the second of two samples: the first wakes the device."""
    noise, on_gpu = SeededNoise.from_seed(0, device), device != "cpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    taken = 0.0
    for _ in range(2):
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        model.sample(size, num_atoms, noise, steps)
        if on_gpu:
            torch.cuda.synchronize()
        taken = time.perf_counter() - started
    return Measured(taken / steps, torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0)


def compared(name: str, model: Any, num_atoms: int, sizes: Sequence[int], device: str = "cuda") -> Iterator[str]:
    """Rows of the table: a model as it is beside the same one compiled (`bench run --compile`), by size."""
    model.requires_grad_(False).eval().to(device)
    plain = [sampling(model, num_atoms, size, device) for size in sizes]
    compile_s = compile_networks([model.network], [num_atoms], device, max(sizes))
    for size, eager in zip(sizes, plain, strict=True):
        fused = sampling(model, num_atoms, size, device)
        cells = [name, size, f"{1000 * eager.step_s:.2f}", f"{1000 * fused.step_s:.2f}"]
        cells += [f"{eager.step_s / fused.step_s:.2f}", f"{eager.memory_gib:.2f}", f"{fused.memory_gib:.2f}"]
        yield f"| {' | '.join(map(str, cells))} | {compile_s:.0f} |"


def report() -> str:
    """The whole report as Markdown."""
    tests = subprocess.run([sys.executable, *TESTS], capture_output=True, text=True)
    lines = [f"# On {torch.cuda.get_device_name()}, torch {torch.__version__}", "", "## Tests", ""]
    lines += [f"    {line}" for line in tests.stdout.splitlines()[-5:]]
    lines += main_job("The main job") + main_job("The main job with compiled networks", "--compile")
    for name in SIZED:
        lines += ["", f"## Samplers of the preset {name}, plain and compiled, untrained networks", "", *HEADER]
        for model in MODELS:
            for dataset, num_atoms in ATOMS.items():
                lines += compared(f"{model}, {dataset}", preset(model, dataset, name).build(0), num_atoms, SIZES)
    return "\n".join(lines) + "\n"


def main_job(title: str, *options: str) -> list[str]:
    """A section of the report: `bench run` as README has it, and its costs."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        job = ["-m", "bench", "run", "--models", "crysldm,diffcsp", "--dataset", "perov5", "--device", "cuda", *options]
        done = subprocess.run([sys.executable, *job, "--out", str(run)], capture_output=True, text=True)
        shown = [done.stdout, done.stderr[-2000:] if done.returncode else ""]
        if not done.returncode:
            costs = [sys.executable, "-m", "bench", "report", str(run), "--costs"]
            shown.append(subprocess.run(costs, capture_output=True, text=True).stdout)
        return ["", f"## {title}", "", *(f"    {line}".rstrip() for line in "\n".join(shown).splitlines())]


def main() -> None:
    """Writes the report to the file named, or says why there is none."""
    if reason := missing():
        sys.stdout.write(f"{reason}\n")
        return
    Path(sys.argv[1]).write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
