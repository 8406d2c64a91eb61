"""What there is: models and their weights; data sets and hulls made ready."""

from __future__ import annotations

import ast
import itertools
import json
from importlib.util import find_spec
from pathlib import Path

from tabulate import tabulate

from bench import registry
from bench.datasets import (
    SplitFigures,
    dataset_spec,
    prepare,
    write_reference_card,
    write_split_counts,
    write_training_formulas,
)
from bench.progress import say
from bench.store import Run


def list_models() -> str:
    """Names of the generators, what each is and the weights in the package."""
    rows = [(name, first_line(target)) for name, target in registry.known("generator").items()]
    for name, entry in registry.plugin_generators().items():
        package = entry.dist.name if entry.dist else entry.value
        rows.append((name, f"{first_line(entry.value)} (package {package})".strip()))
    text = tabulate(rows, headers=("model", "what"))
    weights = shipped_weights()
    listed = tabulate(weights, headers=("weights in the package", "MB", "trained on"))
    return (
        f"{text}\n\n{listed if weights else 'no weights in the package'}\n\n"
        "Also: NAME@STEPS for another number of steps, NAME=FILE for crystals made elsewhere or weights of "
        "`bench train`, module:Class"
    )


def first_line(target: str) -> str:
    """First line of the docstring of "module:Class", or of the string below "name = ...", without an import of it."""
    module, _, name = target.partition(":")
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # a package above it
        spec = None
    if spec is None or spec.origin is None:
        return ""
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    for node, below in itertools.zip_longest(body, body[1:]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            about = below.value if isinstance(below, ast.Expr) else None
            return str(about.value).partition("\n")[0] if isinstance(about, ast.Constant) else ""
    return ""


def shipped_weights() -> list[tuple[str, str, str]]:
    """Name, size in MB and data set of the weights in the package."""
    return [
        (
            card.stem,
            f"{weights.stat().st_size / 1e6:.1f}",
            str(json.loads(card.read_text(encoding="utf-8")).get("dataset", "")),
        )
        for card, weights in shipped_weight_files()
    ]


def shipped_weight_files() -> list[tuple[Path, Path]]:
    """Card and file of the weights in the package."""
    registry.check_packages()
    package, folder = registry.SHIPPED_WEIGHTS
    spec = find_spec(package)
    places = [] if spec is None else [Path(p) / folder for p in spec.submodule_search_locations or ()]
    cards = sorted(path for place in places for path in place.glob("*.json"))
    pairs = [(card, card.with_suffix(".safetensors")) for card in cards]
    return [(card, weights) for card, weights in pairs if weights.is_file()]


def prepare_dataset(name: str, workers: int, reference: Path | None = None, scored: Path | None = None) -> str:
    """Gets a data set ready; a table of its splits. reference: folder into which its card is written anew.

    scored: a run of the crystals of its test split, whose figures are written there too. ValueError where it is a run
    on another data set, or the folder is missing.
    """
    if reference is None and scored is not None:
        raise ValueError(f"--scored {scored}: name the folder for its figures with --reference")
    if reference is not None:
        figures = None if scored is None else split_figures_of(Run.open(scored), name)
        reference.mkdir(parents=True, exist_ok=True)
        write_reference_card(name, reference)
        write_training_formulas(name, reference)
        write_split_counts(name, reference)
        for task in registry.known("reference"):
            registry.plugin("reference", task)(name, reference)
        if figures is not None:
            figures.write(reference, dataset_spec(name).name)
    as_published = "published" if dataset_spec(name).blobs else "as it is"
    rows = [
        (s.split, s.rows, as_published if s.published else "not a published file", s.blob[:12], s.path)
        for s in prepare(name, workers)
    ]
    return tabulate(rows, headers=("split", "crystals", "content", "git blob", "file"))


def split_figures_of(run: Run, dataset: str) -> SplitFigures:
    """Figures of a run of a data set's test split. ValueError where it is a run on another one."""
    if run.dataset != dataset_spec(dataset).name:
        raise ValueError(f"--scored {run.root}: a run on {run.dataset}, not on {dataset_spec(dataset).name}")
    return SplitFigures.of_run(run)


def build_hull(potential: str, out: Path, relax_limit: int | None, extend: bool, workers: int) -> str:
    """Builds a hull and says how far it is; gives a line about it."""

    def on_progress(stage: str, done: int, total: int) -> None:
        say(f"{potential}: {stage} {done} of {total} phases")

    if workers < 1:
        raise ValueError(f"--workers {workers}: must be at least 1")
    return str(registry.plugin("hull", "build")(potential, out, relax_limit, extend, workers, on_progress))
