"""README's tables, the page docs/results.md and their pictures, from the runs that are stored beside the examples.

`python docs/make_figures.py` makes them anew (`make figures`); `python docs/make_figures.py store RUN` puts another run
in its place first (`make runs` samples it). `bench archive RUN --out FILE` only stores one, for other documents.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

from bench import registry
from bench.commands.archive import pack
from bench.commands.report import write_reports
from bench.statistics import Metric
from bench.store import Run, read_state, report_folder
from reports.reproduction.timings import timed
from reports.run_results import ModelResult, read_results
from reports.tables.columns import COLUMNS, Column, three_digits
from reports.tables.footnotes import is_of_no_paper
from reports.tables.ranking import rank

ROOT = Path(__file__).parents[1]
STORED = ROOT / "examples" / "runs" / "perov5.zip"
FIGURES = ROOT / "docs" / "figures"
PICTURES = ("yield_curve.png", "figure2.png")
MADE_FROM = FIGURES / "made_from.json"
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.md"
MARKERS = ("<!-- --8<-- [start:table1] -->", "<!-- --8<-- [end:table1] -->")  # `docs/index.md` takes README's

# What README shows of Table 1 on Perov-5, and the cost that it leaves out: the one that a user pays.
SHOWN = {
    "valid_composition": "Valid compositions (%) ↑",
    "emd_density": "Distance in density ↓",
    "stable_rate": "Stable (%) ↑",
    "network_evaluations": "Evaluations / crystal",
    "seconds_per_stable": "Device seconds / stable crystal ↓",
}
PER_STABLE = Column("seconds_per_stable", "Cost", "seconds / stable", "s/stable", three_digits, "low", "stability")
# And on MP-20, of the runs behind docs/reproduction.md: the papers' models, and those of no paper that do better.
REPRODUCED = ROOT / "examples" / "reproduction"
MP20_MODELS = ("crysldm", "diffcsp", "cdvae", "crysldm-posterior", "composition-first", "composition-first-template")
MP20_SHOWN = {
    "valid_composition": "Compositions ↑",
    "emd_num_elements": "Elements ↓",
    "stable_rate_calibrated": "Stable ↑",
    "network_evaluations": "Evaluations",
    "seconds_per_crystal": "Seconds ↓",
}


def make_figures(stored: Path = STORED, figures: Path = FIGURES) -> None:
    """Draws the pictures, and says from which run."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / stored.name  # reports are written beside it
        shutil.copyfile(stored, copy)
        write_reports([copy])
        figures.mkdir(exist_ok=True)
        for picture in PICTURES:
            shutil.copyfile(report_folder(copy) / picture, figures / picture)
    (figures / MADE_FROM.name).write_text(json.dumps({"run": run_hash(stored)}) + "\n", encoding="utf-8")


def sections(stored: Path = STORED) -> dict[Path, str]:
    """What stands between the markers of README and of docs/results.md."""
    return {README: f"{_perov5_table(stored)}\n\n{_mp20_table()}", RESULTS: _whole_table(stored)}


def _perov5_table(stored: Path) -> str:
    """Six columns of Table 1, and what the marks mean."""
    results = read_results([stored])
    columns = {column: SHOWN[column.metric] for column in (*COLUMNS, PER_STABLE) if column.metric in SHOWN}
    number = Run.open(stored).manifest["budget"]["num_samples"]
    legend = f"{results[0].dataset}, {number} crystals of each model. Second line: the 95 % interval."
    table = _small_table("Method", {_method(result): result for result in results}, columns)
    if "**" in table:
        legend += " Bold: the best, beyond noise."
    if "≈" in table:
        legend += " ≈: the best, or noise cannot tell it from the best."
    return f"{table}\n\n{legend}"


def _mp20_table() -> str:
    """Six columns of Table 1 on MP-20, with seconds from the runs that were timed on a quiet machine."""
    runs, timing = (sorted((REPRODUCED / folder).glob("mp20*.zip")) for folder in ("runs", "timing"))
    by_name = {result.model: result for result in timed(read_results(runs), read_results(timing))}
    results = {by_name[name].method + "*" * is_of_no_paper(by_name[name]): by_name[name] for name in MP20_MODELS}
    first = by_name[MP20_MODELS[0]]
    columns = {column: MP20_SHOWN[column.metric] for column in COLUMNS if column.metric in MP20_SHOWN}
    number, (potential,) = first.run.manifest["budget"]["num_samples"], first.run.manifest["potentials"]
    legend = f"{number} crystals each, stable by calibrated {potential}. **Bold**: best. *: of no paper."
    return f"{_small_table(first.dataset, results, columns)}\n\n{legend}"


def _small_table(first: str, results: dict[str, ModelResult], columns: dict[Column, str]) -> str:
    """Models by their names in the table and columns by their titles, each interval in a second line.

    first: title of the names' column.
    """
    by_column = [_cells(list(results.values()), column) for column in columns]
    lines = [f"| {first} | " + " | ".join(columns.values()) + " |"]
    lines += ["|:---" + "|:---:" * len(columns) + "|"]
    for number, name in enumerate(results):
        lines.append(f"| {name} | " + " | ".join(cells[number] for cells in by_column) + " |")
    return "\n".join(lines)


def _cells(results: list[ModelResult], column: Column) -> list[str]:
    figures = [result.metrics.get(column.metric, Metric(None)) for result in results]
    comparable = [column.comparable(figure) for figure in figures]
    marks = rank(comparable, column.ranking) if column.ranking else [""] * len(figures)
    cells = []
    for figure, mark in zip(figures, marks, strict=True):
        cell = column.cell(figure)
        value = f"**{cell.value}**" if mark == "best" else f"{cell.value} ≈" if mark == "tied" else cell.value
        cells.append(value if cell.interval is None else f"{value}<br>{'–'.join(cell.interval)}")
    return cells


def _method(result: ModelResult) -> str:
    """A model and its number of steps, such as "DiffCSP, 1000 steps"."""
    steps = result.metrics["steps"].value
    return f"{result.method.partition('@')[0]}, {steps:.0f} steps"


def _whole_table(stored: Path) -> str:
    """Table 1 as the terminal shows it, the command that made it, and what it took."""
    table = registry.plugin("table", "table1")([stored], "text", False)
    return f"```text\n{table.strip()}\n```\n\n{_cost(Run.open(stored))}"


def command(run: Run) -> str:
    """The command that made a run."""
    manifest = run.manifest
    models = ",".join(entry["spec"]["text"] for entry in manifest["models"].values())
    number = manifest["budget"]["num_samples"]
    return f"python -m bench run --models {models} --dataset {run.dataset} --num-samples {number}"


def run_hash(stored: Path) -> str:
    """SHA-256 of what the pictures are drawn from."""
    return hashlib.sha256(stored.read_bytes()).hexdigest()


def with_section(document: str, text: str) -> str:
    """A document with another text between its markers. ValueError where it has not one of each."""
    start, end = MARKERS
    if document.count(start) != 1 or document.count(end) != 1:
        raise ValueError(f"the markers {start} and {end} must stand in the document once each")
    before, _, rest = document.partition(start)
    return f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}"


def _cost(run: Run) -> str:
    by_task = [read_state(folder.files)["scoring_seconds"] for model in run.models for folder in run.folders(model)]
    metrics = [entry["metrics"] for entry in run.summary()["models"].values()]
    sampling = sum(m["sampling_seconds"]["value"] for m in metrics)
    scoring = sum(seconds for tasks in by_task for seconds in tasks.values())
    relaxing = sum(tasks.get("stability", 0.0) for tasks in by_task) / scoring
    manifest = run.manifest
    threads, workers = manifest["threads"], manifest["sessions"][-1]["workers"]
    return (
        f"`{command(run)}`: {_minutes(sampling)} of sampling ({manifest['device']['name']}, {threads} "
        f"thread{'s' * (threads != 1)}), {_minutes(scoring)} of scoring ({workers} process{'es' * (workers != 1)}), "
        f"{100 * relaxing:.0f} % of it relaxing."
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def main() -> None:
    """Stores the run named behind `store`, if one is, and writes the pictures and the documents' sections."""
    match sys.argv[1:]:
        case ["store", run]:
            pack(Path(run), STORED, replace=True)
    make_figures()
    for document, text in sections().items():
        document.write_text(with_section(document.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
