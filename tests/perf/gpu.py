"""`make gpu`: what needs a GPU, in one report: tests on CUDA, the main job, speed and memory at the paper's size.

Without a GPU it says so and ends well. `python -m tests.perf.gpu REPORT.md`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from models.diffusion import SeededNoise
from models.presets import preset

SIZES = (100, 500, 2000)  # crystals at a time
STEPS = 20
MODELS = ("crysldm", "diffcsp")
ATOMS = {"perov5": 5, "mp20": 10}
TESTS = ("-m", "pytest", "-q", "tests/models/test_fake_cuda.py", "-m", "slow")


def missing() -> str:
    """Why there is nothing to do here; empty on a machine with a GPU."""
    if torch.cuda.is_available():
        return ""
    built = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no CUDA device"
    return f"make gpu: skipped, {built} here"


def sampling(model: str, dataset: str, size: int) -> tuple[float, float]:
    """Seconds of a step of the `paper` network, untrained, for `size` crystals, and GiB of GPU memory at most."""
    network = preset(model, dataset, "paper").build(0)
    network.requires_grad_(False).eval().to("cuda")  # type: ignore[attr-defined]
    noise = SeededNoise.from_seed(0, "cuda")
    torch.cuda.reset_peak_memory_stats()
    taken = 0.0
    for _ in range(2):  # the first wakes the device
        torch.cuda.synchronize()
        started = time.perf_counter()
        network.sample(size, ATOMS[dataset], noise, STEPS)  # type: ignore[attr-defined]
        torch.cuda.synchronize()
        taken = time.perf_counter() - started
    return taken / STEPS, torch.cuda.max_memory_allocated() / 2**30


def report() -> str:
    """The whole report as Markdown."""
    tests = subprocess.run([sys.executable, *TESTS], capture_output=True, text=True)
    lines = [f"# On {torch.cuda.get_device_name()}, torch {torch.__version__}", "", "## Tests", ""]
    lines += [f"    {line}" for line in tests.stdout.splitlines()[-5:]]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        job = ["-m", "bench", "run", "--models", "crysldm,diffcsp", "--dataset", "perov5", "--device", "cuda"]
        done = subprocess.run([sys.executable, *job, "--out", str(run)], capture_output=True, text=True)
        lines += ["", "## The main job", ""]
        shown = [done.stdout, done.stderr[-2000:] if done.returncode else ""]
        if not done.returncode:
            costs = [sys.executable, "-m", "bench", "report", str(run), "--costs"]
            shown.append(subprocess.run(costs, capture_output=True, text=True).stdout)
        lines += [f"    {line}".rstrip() for line in "\n".join(shown).splitlines()]
    lines += ["", "## Samplers at the paper's size", "", "| model | data set | crystals | ms a step | GiB |"]
    lines.append("|---|---|---|---|---|")
    for model in MODELS:
        for dataset in ATOMS:
            for size in SIZES:
                seconds, memory = sampling(model, dataset, size)
                lines.append(f"| {model} | {dataset} | {size} | {1000 * seconds:.2f} | {memory:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the report to the file named, or says why there is none."""
    if reason := missing():
        sys.stdout.write(f"{reason}\n")
        return
    Path(sys.argv[1]).write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
