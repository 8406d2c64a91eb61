"""The tables of a run of `bench learn`: the curves, times to targets, and totals with crossing points."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.datasets import dataset_spec
from bench.store import Run
from reports.csv_text import csv_text
from reports.learning.curves import (
    TARGETS,
    Kind,
    LearningCurve,
    TimeToTarget,
    best_offer,
    crossings,
    kind_of_crystals,
    offers,
    read_curves,
    time_to_target,
)
from reports.tables.columns import distance, percent, three_digits, with_interval
from reports.tables.formats import DASH, TEXT_WIDTH, Format, grid

NUMBERS = (1, 100, 10_000, 1_000_000)
SHOWN: Sequence[tuple[str, str, Callable[[float, int], str]]] = (
    ("valid_composition", "compos. (%)", percent),
    ("valid_structure", "struct. (%)", percent),
    ("emd_num_elements", "EMD # elem.", distance),
    ("emd_density", "EMD density", distance),
    ("stable_rate", "stable (%)", percent),
    ("sun_rate", "S.U.N. (%)", percent),
    ("seconds_per_crystal", "s / crystal", three_digits),
)
CURVE_COLUMNS = ("dataset", "sampler", "train_seconds", "metric", "value", "low", "high", "n")
TARGET_COLUMNS = ("dataset", "sampler", "target", "reached", "seeds", "expected_seconds", "at_least")
TOTAL_COLUMNS = ("dataset", "training", "kind", "crystals", "total_seconds", "low", "high", "train_seconds", "sampler")


def render(run_dirs: Sequence[Path], format: Format = "text", paper: bool = False) -> str:
    """All tables of these runs; as CSV the curves alone. paper: not used, as no paper printed such figures.

    ValueError where a folder holds no finished run of `bench learn`.
    """
    if format == "csv":
        tables = [curves_csv(Run.open(folder).dataset, read_curves(folder)) for folder in run_dirs]
        return tables[0] + "".join(table.partition("\n")[2] for table in tables[1:])
    return "\n\n".join(_sections(Path(folder), format) for folder in run_dirs) + "\n"


def _sections(folder: Path, format: Format) -> str:
    run, curves = Run.open(folder), read_curves(folder)
    kind = kind_of_crystals(curves)
    parts = [
        f"{dataset_spec(run.dataset).title}: what training costs (mean of the seeds, 95 % intervals)",
        grid(*curve_rows(curves), format),
        "Device seconds of training until a target was met (seeds that met it)",
        grid(*target_rows(curves), format),
        f"Device seconds for K {kind} crystals: training and {_spent(kind)}; in brackets after how much training",
        grid(*total_rows(curves, kind), format),
        "\n".join(crossing_lines(curves, kind)),
        "\n".join(textwrap.fill(note, TEXT_WIDTH, subsequent_indent="  ") for note in notes(run, curves, kind)),
    ]
    return "\n\n".join(filter(None, parts))


def _spent(kind: Kind) -> str:
    return "sampling with scoring (relaxation)" if kind == "stable" else "sampling"


def shown_metrics(curves: Sequence[LearningCurve]) -> list[tuple[str, str, Callable[[float, int], str]]]:
    """Those of SHOWN that some curve has."""
    return [
        row
        for row in SHOWN
        if any(row[0] in p.metrics and p.metrics[row[0]].value is not None for c in curves for p in c.points)
    ]


def curve_rows(curves: Sequence[LearningCurve]) -> tuple[list[str], list[list[str]]]:
    """Headers and a row for each snapshot of each sampler."""
    shown = shown_metrics(curves)
    rows = []
    for curve in curves:
        for place, point in enumerate(curve.points):
            cells = [with_interval(point.metrics.get(metric), show) for metric, _, show in shown]
            rows.append(["" if place else curve.method, three_digits(point.seconds, 0), *cells])
    return ["Sampler", "train s", *[title for _, title, _ in shown]], rows


def target_rows(curves: Sequence[LearningCurve]) -> tuple[list[str], list[list[str]]]:
    """Headers and a row for each sampler."""
    rows = [
        [curve.method, *[show_time(time_to_target(curve, conditions)) for conditions in TARGETS.values()]]
        for curve in curves
    ]
    return ["Sampler", *TARGETS], rows


def show_time(found: TimeToTarget) -> str:
    """ "31.2 (3 of 3)", or "> 48.0 (0 of 3)"."""
    count = f"({found.reached} of {found.seeds})"
    if found.expected is None:
        return f"> {three_digits(found.least or 0.0, 0)} {count}"
    return f"{three_digits(found.expected, 0)} {count}"


def total_rows(curves: Sequence[LearningCurve], kind: Kind) -> tuple[list[str], list[list[str]]]:
    """Headers and a row for each training, each number of crystals by its best sampler and snapshot."""
    found = offers(curves, kind)
    rows = []
    for training in dict.fromkeys(curve.training for curve in curves):
        ways = found.get(training)
        cells = []
        for number in NUMBERS:
            if ways is None:
                cells.append(DASH)
                continue
            best = best_offer(ways, number)
            cells.append(f"{three_digits(best.total(number), 0)} ({three_digits(best.fixed, 0)}, {best.curve.method})")
        rows.append([training, *cells])
    return ["Trained", *[f"K = {number:,}" for number in NUMBERS]], rows


def crossing_lines(curves: Sequence[LearningCurve], kind: Kind) -> list[str]:
    """Which model is cheaper from which number of crystals on, trained at its own learning rate."""
    lines = []
    for crossing in crossings(offers([curve for curve in curves if curve.factor == 1], kind)):
        since = "from the first crystal" if crossing.crystals == 1 else f"from {crossing.crystals:,.0f} crystals on"
        lines.append(f"{crossing.cheaper} costs less than {crossing.dearer} {since}.")
    return lines


def notes(run: Run, curves: Sequence[LearningCurve], kind: Kind) -> list[str]:
    """What the figures mean."""
    plan = run.manifest["learning"]["plan"]
    clock = "CPU seconds of one process" if plan.get("cpu_time") else "seconds of the device clock"
    lines = [
        f"Device seconds are {clock}; loading, validation and writing are outside, all stages of a training inside.",
        f"Trainings of each model: {plan['seeds']}; an interval is the wider of what the crystals and the seeds say.",
        "A target counts as met at the first snapshot that meets it; a seed that never did is counted to its end.",
        "The time to it is what all seeds spent until then, over the seeds that met it (> where none did).",
    ]
    if kind == "valid":
        lines.append(
            "No stable crystal is known in this run, so totals are of valid ones and hold no relaxation. A model that "
            "is hardly trained makes valid crystals too: their distances to the test split say what they are worth."
        )
    else:
        lines.append("Totals of stable crystals hold all scoring, of which relaxation is nearly all.")
    return lines


def curves_csv(dataset: str, curves: Sequence[LearningCurve]) -> str:
    """A row for each metric of each snapshot."""
    rows = [
        (dataset, curve.key, point.seconds, name, metric.value, metric.low, metric.high, metric.n)
        for curve in curves
        for point in curve.points
        for name, metric in point.metrics.items()
    ]
    return csv_text(CURVE_COLUMNS, rows)


def targets_csv(dataset: str, curves: Sequence[LearningCurve]) -> str:
    """A row for each target of each sampler."""
    rows = []
    for curve in curves:
        for name, conditions in TARGETS.items():
            found = time_to_target(curve, conditions)
            rows.append((dataset, curve.key, name, found.reached, found.seeds, found.expected, found.least))
    return csv_text(TARGET_COLUMNS, rows)


def totals_csv(dataset: str, curves: Sequence[LearningCurve]) -> str:
    """A row for each power of ten of crystals of each training, with the interval of what a crystal costs."""
    kind = kind_of_crystals(curves)
    rows = []
    for training, ways in offers(curves, kind).items():
        for number in (10**k for k in range(8)):
            best = best_offer(ways, number)
            low, high = (
                None if bound is None else best.fixed + number * bound for bound in (best.each.low, best.each.high)
            )
            rows.append((dataset, training, kind, number, best.total(number), low, high, best.fixed, best.curve.key))
    return csv_text(TOTAL_COLUMNS, rows)
