"""Where several potentials disagree about which crystals are stable, by kind of chemistry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.arrays import BoolArray
from bench.chemistry import KINDS, kind_of, symbols_in
from bench.interfaces import flags
from bench.statistics import Metric, wilson
from reports.csv_text import csv_text
from reports.run_results import ModelResult, read_results
from reports.tables.by_size import shown_rate
from reports.tables.formats import Format, grid

TASK = "stability"
ALL = "all asked for"
COLUMNS = pa.schema({"formula": pa.string(), "stable": pa.bool_()})
NOTE = (
    "Stable by each potential, in percent of a row, with 95 % intervals. Disagree: crystals that some potentials call "
    "stable and others do not. What is no crystal has no chemistry and counts in the first row alone."
)
WIDEST = 34  # letters of a kind of chemistry in a line on a terminal


@dataclass(frozen=True)
class Votes:
    """What each potential says of a model's crystals. stable: (potentials, n). kinds: (n,) "" where there is none."""

    result: ModelResult
    potentials: Sequence[str]
    stable: BoolArray
    kinds: Sequence[str]

    @property
    def titles(self) -> list[str]:
        """Of the columns of `rows` behind the number of crystals."""
        return [*self.potentials, "all of them", *(["majority"] if len(self.potentials) > 2 else []), "disagree"]

    def rows(self) -> Iterator[tuple[str, int, list[Metric]]]:
        """Chemistry, its crystals, and the share that is stable by each, by all, by more than half, and in dispute."""
        kinds = np.array(self.kinds, dtype=object)
        for kind in (ALL, *KINDS):
            inside = self.stable if kind == ALL else self.stable[:, kinds == kind]
            number, votes = inside.shape[1], inside.sum(axis=0)
            if not number:
                continue
            count = len(self.potentials)
            hits = [*inside.sum(axis=1), (votes == count).sum()]
            hits += [(2 * votes > count).sum()] if count > 2 else []
            hits.append(((votes > 0) & (votes < count)).sum())
            yield kind, number, [wilson(int(hit), number) for hit in hits]


def read_votes(result: ModelResult) -> Votes | None:
    """The verdicts of a model's potentials; None where there are not two, or their tables are not at hand."""
    tasks = result.run.manifest["protocol"]["tasks"]
    names = [name for name in tasks if name.partition("-")[0] == TASK and result.run.has_table(result.model, name)]
    if len(names) < 2:
        return None
    verdicts, formulas = [], list[str]()
    for name in names:
        pieces = pa.Table.from_batches(result.run.scan(result.model, name, ["formula", "stable"]), COLUMNS)
        verdicts.append(flags(pieces["stable"]))
        formulas = [text or "" for text in pieces["formula"].to_pylist()]
    kinds = [kind_of(symbols_in(formula)) if formula else "" for formula in formulas]
    return Votes(result, [tasks[name]["potential"]["name"] for name in names], np.array(verdicts), kinds)


def render(run_dirs: Sequence[Path], format: Format = "text") -> str:
    """A table for each model: its crystals by chemistry, and what each potential says of them.

    ValueError as of `read_results`, and where no model was scored by two potentials.
    """
    results = read_results(run_dirs)
    votes = [found for result in results if (found := read_votes(result))]
    if not votes:
        raise ValueError(
            f"{run_dirs[0]}: stability was scored by one potential; "
            f"`python -m bench rescore {run_dirs[0]} --tasks stability --potential chgnet,m3gnet` scores by two"
        )
    if format == "csv":
        return _csv(votes)
    return "\n\n".join([*(_table(found, format) for found in votes), NOTE]) + "\n"


def _table(votes: Votes, format: Format) -> str:
    titles = ["Chemistry", "Crystals", *(f"{title} (%)" for title in votes.titles)]
    rows = [[kind, number, *map(shown_rate, rates)] for kind, number, rates in votes.rows()]
    widths = None
    if format == "text":
        rows = [[*row[:2], *(str(cell).replace(" [", "\n[") for cell in row[2:])] for row in rows]
        widths = [WIDEST, 9, *([14] * len(votes.titles))]
    table = grid(titles, rows, format, widths)
    return f"Stable by {', '.join(votes.potentials)}: {votes.result.method}, {votes.result.dataset}\n\n{table}"


def _csv(votes: Sequence[Votes]) -> str:
    names = ["dataset", "model", "chemistry", "crystals", "stable_by", "rate", "rate_low", "rate_high"]
    lines = [
        [found.result.run.dataset, found.result.label, kind, number, title, rate.value, rate.low, rate.high]
        for found in votes
        for kind, number, rates in found.rows()
        for title, rate in zip(found.titles, rates, strict=True)
    ]
    return csv_text(names, lines)
