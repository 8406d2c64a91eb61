"""What the crystals of runs took: time, network evaluations, memory and energy, of each and of each stable one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.statistics import Metric
from bench.store import read_state
from reports.run_results import ModelResult, read_results
from reports.tables.columns import count, three_digits
from reports.tables.csv_rows import to_csv
from reports.tables.footnotes import disturbed_note
from reports.tables.formats import DASH, Footnotes, Format, grid

GIB = 2**30


@dataclass(frozen=True)
class Row:
    """One figure: its metric, its name in the table, how it is shown, and what it is divided by first."""

    metric: str
    title: str
    show: Callable[[float, int], str] = three_digits
    per: float = 1.0


ROWS = (
    Row("seconds_per_crystal", "device seconds / crystal"),
    Row("seconds_per_stable", "device seconds / stable crystal"),
    Row("seconds_per_stable_end_to_end", "with scoring: seconds / stable crystal"),
    Row("network_evaluations", "network evaluations / crystal", count),
    Row("evaluations_per_stable", "network evaluations / stable crystal"),
    Row("load_seconds", "loading, s"),
    Row("compile_seconds", "of it compiling, s"),
    Row("warmup_seconds", "warming up, s"),
    Row("undisturbed_share", "undisturbed, % of the seconds", per=0.01),
    Row("peak_memory_bytes", "peak memory of the process, GiB", per=GIB),
    Row("peak_memory_bytes_per_stable", "peak memory / stable crystal, MiB", per=2**20),
    Row("peak_device_memory_bytes", "peak memory of the GPU, GiB", per=GIB),
    Row("energy_wh", "energy of sampling, Wh"),
    Row("energy_wh_per_stable", "energy / stable crystal, Wh"),
)


def render(run_dirs: Sequence[Path], format: Format = "text") -> str:
    """The costs of the runs' models, one column for each. ValueError as of `read_results`."""
    results = read_results(run_dirs)
    if format == "csv":
        return to_csv(results, [], [row.metric for row in ROWS])
    notes = Footnotes()
    compiled = any(result.known("compile_seconds") for result in results)
    rows = [row for row in ROWS if compiled or row.metric != "compile_seconds"]
    lines = [[row.title, *(_cell(row, result, notes) for result in results)] for row in rows]
    headers = ["", *(f"{result.method}, {result.dataset}" for result in results)]
    remarks = [f"({number}) {note}" for number, note in enumerate(notes.lines, 1)]
    return "\n".join([grid(headers, lines, format), "", "In brackets: 95 % intervals.", *remarks]) + "\n"


def _cell(row: Row, result: ModelResult, notes: Footnotes) -> str:
    metric = result.known(row.metric)
    if metric is None:
        return DASH + _note(_reason(row.metric, result), notes)
    shown = _figure(row, metric)
    if row.metric in ("seconds_per_crystal", "undisturbed_share"):
        shown += _note(disturbed_note(result), notes)
    if row.metric == "energy_wh":
        shown += _note(_energy_state(result), notes)
    return shown


def _figure(row: Row, metric: Metric) -> str:
    def show(value: float) -> str:
        return row.show(value / row.per, metric.n)

    if metric.value is None:
        return f"> {show(metric.low or 0.0)}"
    if metric.low is None or metric.high is None or metric.low == metric.high:
        return show(metric.value)
    return f"{show(metric.value)} [{show(metric.low)}, {show(metric.high)}]"


def _reason(metric: str, result: ModelResult) -> str:
    """Why a figure is not there."""
    if result.run.manifest["models"][result.model]["kind"] == "file":
        return "the crystals came from a file, which does not say it"
    if "_per_stable" in metric and "stability" not in result.run.tasks:
        return "stability was not scored in this run"
    if metric == "peak_device_memory_bytes" and result.run.manifest["device"]["kind"] == "cpu":
        return "sampled on a CPU"
    if metric == "compile_seconds":
        return "not compiled"
    if "energy" in metric:
        return _energy_state(result) or "energy was not looked for in this run"
    return "not measured in this run"


def _energy_state(result: ModelResult) -> str:
    """Which counter gave the energy of a model, or why none did, as the run noted it."""
    folder = result.run.folders(result.model)[0]
    return str(read_state(folder.files).get("energy", ""))


def _note(text: str, notes: Footnotes) -> str:
    """The number of a note in brackets, behind a figure; empty without a note."""
    number = notes.number(text)
    return "" if number is None else f" ({number})"
