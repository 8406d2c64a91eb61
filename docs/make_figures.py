"""README's table and pictures from the run that is stored beside the examples.

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
from bench.store import Run, read_state, report_folder

ROOT = Path(__file__).parents[1]
STORED = ROOT / "examples" / "runs" / "perov5.zip"
FIGURES = ROOT / "docs" / "figures"
PICTURES = ("yield_curve.png", "figure2.png")
MADE_FROM = FIGURES / "made_from.json"
README = ROOT / "README.md"
MARKERS = ("<!-- --8<-- [start:table1] -->", "<!-- --8<-- [end:table1] -->")  # `docs/index.md` takes what is between


def make_figures(stored: Path = STORED, figures: Path = FIGURES) -> str:
    """Writes the pictures and says from which run; gives README's section between the markers."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / stored.name  # reports are written beside it
        shutil.copyfile(stored, copy)
        write_reports([copy])
        figures.mkdir(exist_ok=True)
        for picture in PICTURES:
            shutil.copyfile(report_folder(copy) / picture, figures / picture)
    (figures / MADE_FROM.name).write_text(json.dumps({"run": run_hash(stored)}) + "\n", encoding="utf-8")
    return section(stored)


def section(stored: Path = STORED) -> str:
    """What stands between README's markers: the table, the command that made it, and what it took."""
    run = Run.open(stored)
    table = registry.plugin("table", "table1")([stored], "text", False)
    return f"```text\n{table.strip()}\n```\n\n{_cost(run)}"


def command(run: Run) -> str:
    """The command that made a run."""
    manifest = run.manifest
    models = ",".join(entry["spec"]["text"] for entry in manifest["models"].values())
    number = manifest["budget"]["num_samples"]
    return f"python -m bench run --models {models} --dataset {run.dataset} --num-samples {number}"


def run_hash(stored: Path) -> str:
    """SHA-256 of what the pictures are drawn from."""
    return hashlib.sha256(stored.read_bytes()).hexdigest()


def with_section(readme: str, text: str) -> str:
    """README with another text between its markers. ValueError where it has not one of each."""
    start, end = MARKERS
    if readme.count(start) != 1 or readme.count(end) != 1:
        raise ValueError(f"{README.name}: the markers {start} and {end} must stand in it once each")
    before, _, rest = readme.partition(start)
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
    """Stores the run named behind `store`, if one is, and writes pictures and README's section."""
    match sys.argv[1:]:
        case ["store", run]:
            pack(Path(run), STORED, replace=True)
    text = make_figures()
    README.write_text(with_section(README.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
