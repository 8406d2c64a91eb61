"""The columns of figures in Table 1: which metric, how it is shown, which end is the better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.statistics import Metric
from reports.tables.formats import DASH, Cell
from reports.tables.ranking import Mark

if TYPE_CHECKING:
    from reports.run_results import ModelResult


def percent(rate: float, n: int) -> str:
    """A fraction in percent, as finely as n crystals resolve it."""
    return f"{100 * rate:.{1 if n < 10_000 else 2}f}"


def distance(emd: float, n: int) -> str:
    """An earth mover's distance."""
    return f"{emd:.3f}" if emd < 10 else f"{emd:.1f}"


def three_digits(figure: float, n: int) -> str:
    """A cost, to three significant digits where it is worth them."""
    if figure >= 100 or figure == 0:
        return f"{figure:.0f}"
    return f"{figure:#.3g}" if figure >= 1e-3 else "<0.001"


def count(figure: float, n: int) -> str:
    """A number of steps or evaluations: whole, or the mean of several."""
    return f"{figure:.0f}" if figure == round(figure) else f"{figure:.1f}"


def with_interval(metric: Metric | None, show: Callable[[float, int], str]) -> str:
    """ "12.0 [10.1, 14.2]"; the value alone where there is no interval, a dash where there is no value."""
    if metric is None or metric.value is None:
        return DASH
    value = show(metric.value, metric.n)
    if metric.low is None or metric.high is None:
        return value
    return f"{value} [{show(metric.low, metric.n)}, {show(metric.high, metric.n)}]"


@dataclass(frozen=True)
class Column:
    """One column of figures. better: which end is the best, None where the column is not ranked.

    short: the title where room is dear.
    task: what computes it; None for the costs, which are always computed as far as they are known.
    """

    metric: str
    group: str
    title: str
    short: str
    show: Callable[[float, int], str]
    better: Literal["high", "low"] | None
    task: str | None

    @property
    def arrow(self) -> str:
        """The sign that the paper puts beside the title."""
        return "" if self.better is None else {"high": "↑", "low": "↓"}[self.better]

    def cell(self, metric: Metric, mark: Mark = "") -> Cell:
        """The metric as it is shown: a value with its interval, or a one-sided bound."""
        if metric.value is None:
            return Cell(DASH if metric.low is None else f"> {self.show(metric.low, metric.n)}", mark=mark)
        value = self.show(metric.value, metric.n)
        if metric.low is None or metric.high is None:
            return Cell(value, mark=mark)
        low, high = self.show(metric.low, metric.n), self.show(metric.high, metric.n)
        # Bounds that read like the value, of evaluations that are the same in every batch, would say nothing.
        return Cell(value, None if low == value == high else (low, high), mark)

    @property
    def is_time(self) -> bool:
        """Whether it is measured by the clock, which other work on the machine disturbs."""
        return "seconds" in self.metric

    @property
    def ranking(self) -> Literal["high", "low"] | None:
        """Which end is the best where models are marked by it.

        A calibrated rate is not: most of its error is the calibration's, which all rows share.
        """
        return None if self.metric == CALIBRATED else self.better

    def comparable(self, metric: Metric | None) -> Metric | None:
        """The metric on a scale on which it always has an interval; for cost / stable, stable / cost."""
        if metric is None or not self.metric.endswith("_per_stable"):
            return metric
        low, value, high = (0.0 if x is None else 1 / x for x in (metric.high, metric.value, metric.low or None))
        return None if metric.low is None else Metric(-value, -high, -low, metric.n)


# Not shown where no run has it: those scored before there was a calibration, or with a potential without one.
CALIBRATED = "stable_rate_calibrated"
COLUMNS = (
    Column("valid_composition", "Validity (%)", "compositional", "compos.", percent, "high", "validity"),
    Column("valid_structure", "Validity (%)", "structural", "struct.", percent, "high", "validity"),
    Column("emd_num_elements", "EMD to test", "# elements", "# elem.", distance, "low", "properties"),
    Column("emd_density", "EMD to test", "density", "density", distance, "low", "properties"),
    Column("stable_rate", "Stability", "rate (%)", "rate (%)", percent, "high", "stability"),
    Column(CALIBRATED, "Stability", "DFT-calibrated (%)", "by DFT (%)", percent, "high", "stability"),
    Column("steps_per_stable", "Cost", "steps / stable", "steps/stable", three_digits, "low", "stability"),
    Column("seconds_per_crystal", "Cost", "seconds / crystal", "s/crystal", three_digits, "low", None),
    Column("network_evaluations", "Cost", "evaluations / crystal", "evals", count, None, None),
)


def shown_columns(results: Sequence[ModelResult]) -> list[Column]:
    """The columns of Table 1 for these results."""
    has_calibrated = any(result.known(CALIBRATED) for result in results)
    return [column for column in COLUMNS if column.metric != CALIBRATED or has_calibrated]
