"""What there is: models and their weights, data sets, and what this machine has for them."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path

from tabulate import tabulate

from bench import registry
from bench.dataset_files import DATASETS, SPLITS, DataUnavailable
from bench.datasets import prepare, reference_card, split_hash
from bench.device import default_threads, describe_device, resolve_device
from bench.manifest import software
from bench.progress import say


def list_models() -> str:
    """Names of the generators, what each is and the weights in the package."""
    rows = [(name, first_line(target)) for name, target in registry.known("generator").items()]
    rows += [(name, entry.value) for name, entry in registry.plugin_generators().items()]
    text = tabulate(rows, headers=("model", "what"))
    weights = shipped_weights()
    listed = tabulate(weights, headers=("weights in the package", "MB", "trained on"))
    return (
        f"{text}\n\n{listed if weights else 'no weights in the package'}\n\n"
        "Also: NAME@STEPS for another number of steps, NAME=FILE for crystals made elsewhere, module:Class"
    )


def first_line(target: str) -> str:
    """First line of the docstring of "module:Class", read without importing the module."""
    module, _, name = target.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def shipped_weights() -> list[tuple[str, str, str]]:
    """Name, size in MB and data set of the weights in the package."""
    registry.check_packages()
    package, folder = registry.SHIPPED_WEIGHTS
    spec = find_spec(package)
    places = [] if spec is None else [Path(p) / folder for p in spec.submodule_search_locations or ()]
    found = []
    for card in sorted(path for place in places for path in place.glob("*.json")):
        weights = card.with_suffix(".safetensors")
        if weights.is_file():
            size = f"{weights.stat().st_size / 1e6:.1f}"
            found.append((card.stem, size, str(json.loads(card.read_text(encoding="utf-8")).get("dataset", ""))))
    return found


def prepare_dataset(name: str, workers: int) -> str:
    """Gets a data set ready; a table of its splits."""
    rows = [
        (s.split, s.rows, "published" if s.published else "not a published file", s.blob[:12], s.path)
        for s in prepare(name, workers)
    ]
    return tabulate(rows, headers=("split", "crystals", "content", "git blob", "file"))


def build_hull(potential: str, out: Path, relax_limit: int | None, extend: bool, workers: int) -> str:
    """Builds a hull and says how far it is; gives a line about it."""

    def on_progress(stage: str, done: int, total: int) -> None:
        say(f"{potential}: {stage} {done} of {total} phases")

    if workers < 1:
        raise ValueError(f"--workers {workers}: must be at least 1")
    return str(registry.plugin("hull", "build")(potential, out, relax_limit, extend, workers, on_progress))


def examine() -> str:
    """Device, threads, packages, tasks, data sets and weights at hand."""
    device = describe_device(resolve_device("auto"))
    rows = [("device", f"{device['kind']}: {device['name']}"), ("threads", str(default_threads()))]
    rows += list(software().items())
    rows.append(("tasks", ", ".join(registry.known("task")) or "none"))
    rows.append(("models", ", ".join([*registry.known("generator"), *registry.plugin_generators()]) or "none"))
    rows.append(("weights", ", ".join(name for name, _, _ in shipped_weights()) or "none in the package"))
    for name in DATASETS:
        splits = []
        for split in SPLITS:
            try:
                splits.append(f"{split} {split_hash(name, split)[:8]}")
            except DataUnavailable:
                splits.append(f"{split} not at hand")
        rows.append((name, f"{', '.join(splits)}; reference card {reference_card(name).sha256[:8]}"))
    return tabulate(rows, tablefmt="plain")
