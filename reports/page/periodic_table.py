"""Element frequencies on a periodic table: the upper half of a cell is the test split's, the lower the model's."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.crystals import MAX_ATOMIC_NUMBER
from bench.datasets import CrystalCounts
from reports.page.html_table import HtmlTable, simple_table
from reports.tables.split_row import TEST_SPLIT

F_BLOCK_ROWS = 2.4  # by which lanthanoids and actinoids stand below their periods
LEAST_SHARE, MOST_SHARE = 1e-4, 0.5  # of the atoms, where the logarithmic scale of colours begins and ends
FAINTEST = 0.12
LEGEND_SHARES = (0.001, 0.01, 0.1)


@dataclass(frozen=True)
class Place:
    """Where an element stands. column: 0 to 17. row: from 0, not whole for the f block."""

    symbol: str
    name: str
    column: float
    row: float


@dataclass(frozen=True)
class ElementCell:
    """One element's cell. upper, lower: opacity of its halves, 0 where it does not occur. title: both in words."""

    place: Place
    upper: float
    lower: float
    title: str


@dataclass(frozen=True)
class PeriodicTable:
    """One model's cells, and in words which elements it has too many and too few of."""

    method: str
    cells: Sequence[ElementCell]
    summary: str


def periodic_table(method: str, split: CrystalCounts, counts: CrystalCounts) -> PeriodicTable:
    """The cells of one model beside the test split."""
    wanted, found = split.element_shares, counts.element_shares
    cells = [
        ElementCell(
            place,
            shade(wanted[number]),
            shade(found[number]),
            f"{place.name}: {_percent(found[number])} of the atoms, {_percent(wanted[number])} in the {TEST_SPLIT}",
        )
        for number, place in places().items()
    ]
    return PeriodicTable(method, cells, _summary(wanted, found))


def elements_table(name: str, split: CrystalCounts, models: Mapping[str, CrystalCounts]) -> HtmlTable:
    """The share of every element that occurs, in percent of the atoms."""
    groups = {TEST_SPLIT: split, **models}
    occurs = np.sum([counts.elements for counts in groups.values()], axis=0) > 0
    rows = [
        [place.symbol, str(number), *(_percent(counts.element_shares[number]) for counts in groups.values())]
        for number, place in places().items()
        if occurs[number]
    ]
    return simple_table(name, "Share of the atoms", ["Element", "Z", *groups], rows, filtered=True)


def shade(share: float) -> float:
    """Opacity in [FAINTEST, 1] of a share of the atoms on a logarithmic scale; 0 for none."""
    if share <= 0:
        return 0.0
    place = np.log(share / LEAST_SHARE) / np.log(MOST_SHARE / LEAST_SHARE)
    return round(FAINTEST + (1 - FAINTEST) * float(np.clip(place, 0, 1)), 3)


@functools.cache
def places() -> Mapping[int, Place]:
    """Where each element stands, by atomic number."""
    from pymatgen.core import Element

    found = {}
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        element = Element.from_Z(number)
        column, row = element.group - 1.0, element.row - 1.0
        for first in (57, 89):
            if first <= number < first + 15:
                column, row = 2.0 + number - first, row + F_BLOCK_ROWS
        found[number] = Place(str(element.symbol), str(element.long_name), column, row)
    return found


def _percent(share: float) -> str:
    return "0 %" if share == 0 else f"{100 * share:.2f} %"


def _summary(wanted: np.ndarray, found: np.ndarray) -> str:
    """The three elements that differ most each way, in points of percent."""
    differences = 100 * (found - wanted)
    order = np.argsort(differences)
    more = [f"{places()[int(z)].symbol} +{differences[z]:.1f}" for z in order[::-1][:3] if differences[z] > 0.05]
    less = [f"{places()[int(z)].symbol} −{-differences[z]:.1f}" for z in order[:3] if differences[z] < -0.05]
    absent = int(((wanted > 0) & (found == 0)).sum())
    parts = [
        f"more than the {TEST_SPLIT}: {', '.join(more)}" if more else "",
        f"less: {', '.join(less)}" if less else "",
    ]
    parts.append(
        f"{absent} of its {int((wanted > 0).sum())} elements do not occur" if absent else "all its elements occur"
    )
    return "; ".join(filter(None, parts)) + " (points of percent)" * bool(more or less)
