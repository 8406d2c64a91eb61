"""How the crystals of models are distributed beside the data set's own test split: histograms and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from bench.arrays import FloatArray
from bench.datasets import BINS, CrystalCounts
from reports.figures.files import line_of
from reports.page.html_table import HtmlTable, simple_table
from reports.tables.formats import DASH
from reports.tables.split_row import TEST_SPLIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Quantity -> its title and unit, in the order in which they are shown.
TITLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "density": ("Density", "g/cm³"),
        "num_elements": ("Number of elements", ""),
        "num_atoms": ("Atoms in the cell, N", ""),
        "volume_per_atom": ("Volume per atom", "Å³"),
        "length": ("Cell edges a, b, c", "Å"),
        "angle": ("Cell angles α, β, γ", "degrees"),
    }
)
MOST_BARS = 26  # in one panel
TAIL = 0.005  # of the test split's values on each side that may lie beyond a panel
MARGIN = 0.2  # of its width that a panel reaches beyond them
LEAST_SAID = 0.0005  # share beyond a panel that is told
DODGE = 0.5  # of the place of a whole number that the models' marks share


@dataclass(frozen=True, eq=False)
class Distribution:
    """Shares of one group's values. edges: (bins + 1,); shares: (bins,) of all values. outside: share in no bin."""

    name: str
    edges: FloatArray
    shares: FloatArray
    outside: float


def is_whole(quantity: str) -> bool:
    """Whether a quantity is a whole number, which has no bins."""
    return quantity not in BINS


def distributions(quantity: str, split: CrystalCounts, models: Mapping[str, CrystalCounts]) -> list[Distribution]:
    """The test split's and each model's, in the same bins, which the test split chooses."""
    groups = {TEST_SPLIT: split, **models}
    if is_whole(quantity):
        most = max(len(getattr(counts, quantity)) for counts in groups.values())
        edges: FloatArray = np.arange(most + 1, dtype=np.float64) - 0.5
        first = min(int(np.flatnonzero(getattr(split, quantity))[0]), 1)
        found = []
        for name, counts in groups.items():
            numbers = np.zeros(most, dtype=np.float64)
            numbers[: len(getattr(counts, quantity))] = getattr(counts, quantity)
            found.append(Distribution(name, edges[first:], _shares(numbers[first:], numbers.sum()), 0.0))
        return found
    fine = split.binned[quantity].edges
    low, high = _reach(split, quantity)
    step = max(1, -(-(high - low) // MOST_BARS))
    places = np.arange(low, high + step, step)
    places = places[places < len(fine)]
    found = []
    for name, counts in groups.items():
        own = counts.binned[quantity]
        total = max(own.total, 1)
        sums = np.concatenate([[0], np.cumsum(own.counts)])[places]
        inside = float(sums[-1] - sums[0]) if len(sums) else 0.0
        outside = (own.total - inside) / total
        found.append(Distribution(name, fine[places], np.diff(sums) / total, float(outside)))
    return found


def draw_panel(panel: Axes, quantity: str, found: Sequence[Distribution], places: Mapping[str, int]) -> None:
    """The test split as bars, each model as a line or, of whole numbers, as marks. places: model -> its colour."""
    split, models = found[0], found[1:]
    middles = (split.edges[1:] + split.edges[:-1]) / 2
    panel.bar(middles, 100 * split.shares, 0.92 * np.diff(split.edges), color="#bfbfbf", linewidth=0)
    for order, model in enumerate(models):
        colour, style, marker = line_of(places[model.name])
        if is_whole(quantity):
            beside = DODGE * ((order + 0.5) / len(models) - 0.5)
            there = model.shares > 0
            panel.plot(
                middles[there] + beside, 100 * model.shares[there],
                color=colour, marker=marker, markersize=4, linestyle="none", markeredgewidth=0,
            )  # fmt: skip
        else:
            panel.stairs(100 * model.shares, model.edges, color=colour, linestyle=style, linewidth=1.3, baseline=None)
    panel.set_ylim(bottom=0)
    panel.set_xlim(split.edges[0], split.edges[-1])
    if is_whole(quantity):
        from matplotlib.ticker import MaxNLocator

        panel.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    panel.set_xlabel(
        " ".join(filter(None, [TITLES[quantity][0], f"({unit})" if (unit := TITLES[quantity][1]) else ""]))
    )
    panel.set_ylabel("% of values" if quantity in ("length", "angle") else "% of crystals")
    panel.spines[["top", "right"]].set_visible(False)


def spread_table(name: str, split: CrystalCounts, models: Mapping[str, CrystalCounts]) -> HtmlTable:
    """Median and middle 90 % of every quantity, and how many crystals they are of."""
    groups = {TEST_SPLIT: split, **models}
    rows = [["Crystals", *(f"{counts.crystals:,}" for counts in groups.values())]]
    for quantity, (title, unit) in TITLES.items():
        cells = [_spread(quantity, counts) for counts in groups.values()]
        rows.append([f"{title} ({unit})" if unit else title, *cells])
    return simple_table(name, "Median, and below it the range of the middle 90 %", ["Quantity", *groups], rows)


def beyond(found: Mapping[str, Sequence[Distribution]]) -> list[str]:
    """In a sentence, how much of a model's values the figures do not show."""
    parts = [
        f"{model.name} {100 * model.outside:.1f} % of {TITLES[quantity][0][0].lower()}{TITLES[quantity][0][1:]}"
        for quantity, group in found.items()
        for model in group[1:]
        if model.outside >= LEAST_SAID
    ]
    return [f"Beyond the edges of the figures: {'; '.join(parts)}."] if parts else []


def _spread(quantity: str, counts: CrystalCounts) -> str:
    """The median and the 5th and 95th percentile, as finely as the bins are."""
    if is_whole(quantity):
        numbers, values = getattr(counts, quantity), np.arange(len(getattr(counts, quantity)), dtype=np.float64)
    else:
        binned = counts.binned[quantity]
        numbers, values = binned.counts, (binned.edges[1:] + binned.edges[:-1]) / 2
    if not numbers.sum():
        return DASH
    cumulative = np.cumsum(numbers) / numbers.sum()
    low, middle, high = (float(values[np.searchsorted(cumulative, q - 1e-12)]) for q in (0.05, 0.5, 0.95))
    form = "{:.0f}" if is_whole(quantity) or quantity == "angle" else "{:.1f}"
    return f"{form.format(middle)} [{form.format(low)}, {form.format(high)}]"


def _shares(numbers: FloatArray, total: float) -> FloatArray:
    return np.asarray(numbers / max(float(total), 1.0), dtype=np.float64)


def _reach(split: CrystalCounts, quantity: str) -> tuple[int, int]:
    """First and last place of the bins that a panel shows."""
    counts = split.binned[quantity].counts
    cumulative = np.cumsum(counts) / max(counts.sum(), 1)
    low, high = int(np.searchsorted(cumulative, TAIL)), int(np.searchsorted(cumulative, 1 - TAIL)) + 1
    wider = max(3, round(MARGIN * (high - low)))
    return max(low - wider, 0), min(high + wider, len(counts))
