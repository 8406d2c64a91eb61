"""Writes what stored runs say of the paper's claims into docs/reproduction.md and the pages of measurements.

    python -m reports.reproduction RUN... --timing RUN... --docs docs/reproduction.md docs/measurements/*.md

The documents are written by hand, but for what stands between `<!-- NAME: from here -->` and `<!-- NAME: to here -->`:
it is made anew, with the runs in the order of their names. Each table has its place in one of the documents.
--timing: runs on a quiet machine. All device seconds are taken from them, but where a title says otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.atomic import write_text
from reports.figures import figure2
from reports.figures.cost_quality import pairs_table
from reports.figures.hull_histogram import hull_histograms
from reports.reproduction import paper_noise, samplers, speedups, statements
from reports.reproduction.timings import timed
from reports.run_results import ModelResult, read_results
from reports.tables.formats import grid, to_markdown
from reports.tables.paper_rows import PRINTED_ROWS
from reports.tables.table1 import compose


def main() -> None:
    """Reads the runs, fills the documents and draws their figures beside the first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--timing", nargs="+", type=Path, default=[], metavar="RUN")
    parser.add_argument("--docs", nargs="+", type=Path, required=True, help="the documents to fill")
    given = parser.parse_args()
    documents = {path: path.read_text(encoding="utf-8") for path in given.docs}
    filled = fill(documents, sections(given.runs, given.timing))
    draw_figures(read_results(by_name(given.runs)), given.docs[0].parent / "figures")
    for path, text in filled.items():
        write_text(path, text)


def sections(runs: Sequence[Path], timing: Sequence[Path]) -> dict[str, str]:
    """The tables in Markdown, by the names of their places; data sets in the paper's order."""
    as_run = read_results(by_name(runs))
    results = timed(as_run, read_results(by_name(timing)) if timing else [])
    printed = [row.dataset for row in PRINTED_ROWS]
    results.sort(key=lambda r: printed.index(r.run.dataset) if r.run.dataset in printed else len(printed))
    tables = {"statements": grid(*statements.statement_table(results), "markdown")}
    for dataset in dict.fromkeys(result.run.dataset for result in results):
        own = [result for result in results if result.run.dataset == dataset]
        rows = [row for row in PRINTED_ROWS if row.dataset == dataset]
        tables[f"table 1, {dataset}"] = to_markdown(compose(own, rows))
        pairs = pairs_table(own)
        tables[f"equal evaluations, {dataset}"] = f"```text\n{pairs}\n```" if pairs else "No two models spend as many."
        untimed = [result for result in as_run if result.run.dataset == dataset]
        tables[f"samplers, {dataset}"] = grid(samplers.HEADERS, samplers.sampler_rows(untimed), "markdown")
    tables["speed-ups"] = grid(speedups.HEADERS, speedups.speedup_rows(results), "markdown")
    tables["noise"] = grid(paper_noise.HEADERS, paper_noise.noise_rows(results), "markdown")
    return tables


def by_name(runs: Sequence[Path]) -> list[Path]:
    """The runs in the order of their names without the ending: a shell lists perov5-cdvae.zip before perov5.zip."""
    return sorted(runs, key=lambda path: path.stem)


def fill(documents: Mapping[Path, str], tables: Mapping[str, str]) -> dict[Path, str]:
    """The documents with their tables anew. ValueError for a table without a place, or a place without a table."""
    filled = dict(documents)
    for name, table in tables.items():
        begin, end = f"<!-- {name}: from here -->", f"<!-- {name}: to here -->"
        path = next((path for path, text in filled.items() if begin in text), None)
        before, _, rest = filled[path].partition(begin) if path else ("", "", "")
        _, ended, after = rest.partition(end)
        if path is None or not ended:
            raise ValueError(f"{_names(documents)}: has no lines {begin} and {end} to put a table between")
        filled[path] = f"{before}{begin}\n\n{table.strip()}\n\n{end}{after}"
    places = sum(text.count(": from here -->") for text in filled.values())
    if places != len(tables):
        raise ValueError(f"{_names(documents)}: has {places} places for tables, and the runs give {len(tables)}")
    return filled


def _names(documents: Mapping[Path, str]) -> str:
    return ", ".join(map(str, documents))


def draw_figures(results: Sequence[ModelResult], folder: Path) -> None:
    """Figure 2 of each data set's models that were relaxed."""
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in dict.fromkeys(result.run.dataset for result in results):
        own = [r for r in results if r.run.dataset == dataset and r.run.has_table(r.model, "stability")]
        if own:
            figure2.save(hull_histograms(own), figure2.title(own[0].dataset), folder / f"figure2-{dataset}")


if __name__ == "__main__":
    main()
