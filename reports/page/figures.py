"""Figures of a page: one panel each, so that a narrow screen shows them one below the other at a readable size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.statistics import Metric
from reports.figures import figure2, pareto
from reports.figures.cost_quality import COSTS, family, front, models, points, qualities
from reports.figures.files import line_of
from reports.figures.hull_histogram import HullHistogram
from reports.page import distributions
from reports.page.distributions import Distribution
from reports.page.inline_svg import inline_svg
from reports.run_results import ModelResult
from reports.tables.columns import Column
from reports.yields import figure as yield_curve
from reports.yields.curves import AXES, Axis, Kind, YieldCurve
from reports.yields.tables import TITLES, number, show_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = (3.1, 2.2)
KEY_INCHES = (0.34, 0.14)


@dataclass(frozen=True)
class PageFigure:
    """title, remark: its caption. words: what a reader who does not see it is told. svg: the element, already safe."""

    title: str
    words: str
    svg: str
    remark: str = ""


Group = tuple[str, list[PageFigure]]  # a title above some figures


@dataclass(frozen=True)
class Key:
    """One entry of a legend. svg: its line and marker, already safe."""

    text: str
    svg: str


def legend(names: Mapping[str, int], name: str, line: bool = True) -> list[Key]:
    """Keys of models. names: model -> its colour, line and marker; name: prefix of ids."""
    return [Key(text, inline_svg(_key(place, line), f"{name}-key{place}")) for text, place in names.items()]


def yield_figures(
    curves: Sequence[YieldCurve], places: Mapping[str, int], axes: Sequence[Axis], name: str
) -> list[Group]:
    """For each of these costs a panel for each kind of crystal."""
    groups = []
    for axis in axes:
        found = []
        for kind in dict.fromkeys(curve.kind for curve in curves):
            own = [curve for curve in curves if (curve.kind, curve.axis) == (kind, axis)]
            if own:
                svg = inline_svg(panel_figure(_yields(own, places, kind, axis)), f"{name}-yield-{kind}-{axis}")
                ends = "; ".join(f"{c.method} {_at_end(c)}" for c in own)
                words = f"{TITLES[kind]} crystals against {AXES[axis]}. At the end of each curve: {ends}."
                found.append(PageFigure(f"{TITLES[kind]} crystals", words, svg))
        if found:
            groups.append((f"By {AXES[axis]}", found))
    return groups


def pareto_figures(
    results: Sequence[ModelResult], places: Mapping[str, int], costs: Sequence[str], name: str
) -> list[Group]:
    """For each of these costs a panel for each quality. places: family -> its colour, line and marker."""
    groups = []
    for cost in costs:
        found = []
        for column in qualities(models(results)):
            own = points(results, column.metric, cost)
            if len(own) < 2:
                continue

            def draw(panel: Axes, column: Column = column, cost: str = cost) -> None:
                pareto.draw_panel(panel, results, column, cost, places)
                panel.set_xlabel(COSTS[cost])
                panel.set_ylabel(f"{column.title} {column.arrow}")

            title = f"{column.group.split(' (')[0]}: {column.title}"
            best = [p.result.method for p, on in zip(own, front(own, column), strict=True) if on]
            words = (
                f"{title}, against {COSTS[cost]}. On the front, where nothing is cheaper and better: {', '.join(best)}."
            )
            svg = inline_svg(panel_figure(draw), f"{name}-pareto-{column.metric}-{cost}")
            found.append(PageFigure(title, words, svg))
        if found:
            groups.append((f"Against {COSTS[cost]}", found))
    return groups


def hull_figures(histograms: Sequence[HullHistogram], name: str) -> list[PageFigure]:
    """Figure 2: a panel for each model, all on the same axes."""
    found = []
    for place, histogram in enumerate(histograms):

        def draw(panel: Axes, histogram: HullHistogram = histogram) -> None:
            figure2.draw_panel(panel, histogram)
            figure2.same_axes(panel, histograms)
            panel.set_xlabel("energy above hull (eV/atom)")
            panel.set_ylabel("% of crystals")

        svg = inline_svg(panel_figure(draw), f"{name}-hull-{place}")
        said = figure2.in_words(histogram) or "no crystal has an energy"
        words = f"Energy above hull of the crystals of {histogram.method}, {histogram.requested:,} asked for: {said}."
        found.append(PageFigure(histogram.method, words, svg, said))
    return found


def distribution_figures(
    found: Mapping[str, Sequence[Distribution]], places: Mapping[str, int], name: str
) -> list[PageFigure]:
    """A panel for each quantity. found: quantity -> the test split's distribution and each model's."""
    figures = []
    for quantity, own in found.items():

        def draw(panel: Axes, quantity: str = quantity, own: Sequence[Distribution] = own) -> None:
            distributions.draw_panel(panel, quantity, own, places)

        title, _ = distributions.TITLES[quantity]
        words = (
            f"{title}: distribution of {', '.join(part.name for part in own[1:])} beside the test split; see the table."
        )
        figures.append(PageFigure(title, words, inline_svg(panel_figure(draw), f"{name}-spread-{quantity}")))
    return figures


def places_of(results: Sequence[ModelResult]) -> dict[str, int]:
    """Model -> its place in the order of colours, the same in every figure of a data set."""
    return {result.method: place for place, result in enumerate(results)}


def family_places(results: Sequence[ModelResult]) -> dict[str, int]:
    """Family -> the place of its first model."""
    found: dict[str, int] = {}
    for place, result in enumerate(results):
        if models([result]):
            found.setdefault(family(result), place)
    return found


def panel_figure(draw: Callable[[Axes], None]) -> Callable[[], Figure]:
    """A figure of one panel, of the size that all on a page have."""

    def make() -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=PANEL_INCHES, layout="constrained")
        draw(figure.subplots())
        return figure

    return make


def _yields(curves: Sequence[YieldCurve], places: Mapping[str, int], kind: Kind, axis: Axis) -> Callable[[Axes], None]:
    def draw(panel: Axes) -> None:
        yield_curve.draw_panel(panel, curves, places)
        yield_curve.finish_panel(panel)
        panel.set_xlabel(AXES[axis])
        panel.set_ylabel(f"{TITLES[kind]} crystals")

    return draw


def _at_end(curve: YieldCurve) -> str:
    reading = curve.readings([curve.until])[0] if len(curve.grid) else Metric(0.0)
    return f"{show_count(reading)} by {number(curve.until) if curve.until >= 10 else f'{curve.until:.2g}'}"


def _key(place: int, line: bool) -> Callable[[], Figure]:
    def make() -> Figure:
        from matplotlib.figure import Figure

        colour, style, marker = line_of(place)
        figure = Figure(figsize=KEY_INCHES)
        panel = figure.add_axes((0, 0, 1, 1))
        panel.plot([0, 1], [0, 0], color=colour, linestyle=style if line else "none", linewidth=1.4)
        panel.plot([0.5], [0], color=colour, marker=marker, markersize=4.5, linestyle="none", markeredgewidth=0)
        panel.set_xlim(0, 1)
        panel.set_ylim(-1, 1)
        panel.axis("off")
        return figure

    return make
