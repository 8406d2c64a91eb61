"""How a model's metrics moved from run to run of one protocol, and what else changed in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.run_folder.manifest import differences
from bench.statistics import differ
from reports.figures.files import line_of
from reports.page.figures import Key, PageFigure, legend, panel_figure
from reports.page.html_table import HtmlTable, Td, Th
from reports.page.inline_svg import inline_svg
from reports.page.records import public
from reports.run_results import ModelResult, one_device
from reports.site.collection import DIGITS, SiteRun
from reports.tables.columns import Column
from reports.tables.formats import DASH
from reports.tables.leaderboard import SHOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES, MOST_TICKS, LONG = 7, 5, 300  # in one figure; letters of a value that is shown
NO_CHANGE = "nothing that the manifest knows"


@dataclass(frozen=True)
class Point:
    """A model in one run."""

    at: SiteRun
    result: ModelResult

    @property
    def environment(self) -> dict[str, Any]:
        """What its figures may depend on beside the protocol, which all points share."""
        manifest = self.at.run.manifest
        entry = manifest["models"].get(self.result.model, {})
        code = self.at.code
        shared = ("software", "device", "threads", "preset", "seed", "repeats", "budget", "data")
        return {
            **{name: manifest[name] for name in shared if name in manifest},
            "code": str(code.get("commit") or code.get("sha256") or "not known")[:DIGITS],
            "steps": entry.get("spec", {}).get("steps"),
            "weights": entry.get("card"),
            "file": entry.get("sha256"),
        }


def histories(runs: Sequence[SiteRun]) -> dict[str, list[Point]]:
    """Method -> its points, the earliest first, of each that more than one run has."""
    found: dict[str, list[Point]] = {}
    for run in sorted(runs, key=lambda run: run.created):
        for result in run.results:
            found.setdefault(result.method, []).append(Point(run, result))
    return {method: points for method, points in found.items() if len(points) > 1}


def changes(before: Point, after: Point) -> list[str]:
    """What changed of the environment from one point to another, a line each."""
    lines = differences(before.environment, after.environment)
    return [text if len(text) <= LONG else f"{text[:LONG]}…" for text in (public(line) for line in lines)]


def moves(before: Point, after: Point) -> list[str]:
    """The metrics that moved beyond noise, with the direction. Times only where they compare."""
    found = []
    for column in SHOWN:
        old, new = (column.comparable(point.result.known(column.metric)) for point in (before, after))
        if old is None or new is None or not old.has_interval or not new.has_interval:
            continue
        pair = [before.result, after.result]
        if column.is_time and (not one_device(pair) or any(result.was_disturbed for result in pair)):
            continue
        if differ(old, new) and old.value is not None and new.value is not None:
            better = (new.value > old.value) == (column.better == "high")
            found.append(f"{_title(column).lower()}: {'better' if better else 'worse'}")
    return found


def history_table(method: str, points: Sequence[Point], name: str, pages: str) -> HtmlTable:
    """A row for each point: when, where, its figures, what moved beyond noise, and what changed before it.

    pages: address of the folder of the runs' pages.
    """
    shown = [column for column in SHOWN if any(point.result.known(column.metric) for point in points)]
    titles = [f"{_title(column)}{' (%)' * ('%' in column.group)}" for column in shown]
    headers = [
        Th("Date", numeric=False),
        Th("Run", numeric=False),
        Th("Commit", numeric=False),
        *(Th(title, arrow=column.arrow) for title, column in zip(titles, shown, strict=True)),
        Th("Moved beyond noise", numeric=False),
        Th("Changed since the row above", numeric=False),
    ]
    rows = []
    for place, point in enumerate(points):
        before = points[place - 1] if place else None
        moved = "; ".join(moves(before, point)) if before else ""
        changed = ("; ".join(changes(before, point)) or NO_CHANGE) if before else ""
        rows.append(
            [
                Td(point.at.date or DASH),
                Td(point.at.run.name, header=True, href=f"{pages}{point.at.slug}.html"),
                Td(point.at.commit or DASH),
                *(_figure(point.result, column) for column in shown),
                Td(moved or DASH),
                Td(changed or DASH),
            ]
        )
    return HtmlTable(name, method, headers, [rows])


def history_figures(found: Mapping[str, Sequence[Point]], name: str) -> list[PageFigure]:
    """A panel for each metric: the points of each model in the order of their runs, with 95 % intervals."""
    found = dict(list(found.items())[:MOST_LINES])
    runs = _runs(found)
    figures = []
    for column in SHOWN:
        known = {
            method: [point for point in points if _value(point, column) is not None] for method, points in found.items()
        }
        if not any(len(points) > 1 for points in known.values()):
            continue

        def draw(panel: Axes, column: Column = column, known: Mapping[str, Sequence[Point]] = known) -> None:
            _draw(panel, column, known, runs)

        title = _title(column)
        last = [f"{method} {column.cell(metric).value}" for method, metric in _last(known, column)]
        words = f"{title}, from run to run. In the latest run of each model: {', '.join(last)}. The tables have all."
        figures.append(PageFigure(title, words, inline_svg(panel_figure(draw), f"{name}-{column.metric}")))
    return figures


def history_notes(found: Mapping[str, Sequence[Point]]) -> list[str]:
    """What the figures leave out."""
    left_out = list(found)[MOST_LINES:]
    return [f"In the tables alone: {', '.join(left_out)}."] if left_out else []


def history_keys(found: Mapping[str, Sequence[Point]], name: str) -> list[Key]:
    """The legend of `history_figures`."""
    return legend({method: place for place, method in enumerate(list(found)[:MOST_LINES])}, name)


def _title(column: Column) -> str:
    """What a metric is, without a table's groups above it: "Device seconds per crystal", "Stable"."""
    if "%" in column.group:
        return column.title[0].upper() + column.title[1:]
    return f"{column.group} {column.title}"


def _runs(found: Mapping[str, Sequence[Point]]) -> list[SiteRun]:
    by_slug = {point.at.slug: point.at for points in found.values() for point in points}
    return sorted(by_slug.values(), key=lambda run: run.created)


def _last(known: Mapping[str, Sequence[Point]], column: Column) -> list[tuple[str, Any]]:
    return [(method, points[-1].result.known(column.metric)) for method, points in known.items() if points]


def _value(point: Point, column: Column) -> float | None:
    metric = point.result.known(column.metric)
    return None if metric is None else metric.value


def _figure(result: ModelResult, column: Column) -> Td:
    metric = result.known(column.metric)
    if metric is None:
        return Td(DASH)
    cell = column.cell(metric)
    return Td(cell.value, f"{cell.interval[0]} – {cell.interval[1]}" if cell.interval else "")


def _draw(panel: Axes, column: Column, known: Mapping[str, Sequence[Point]], runs: Sequence[SiteRun]) -> None:
    order = {run.slug: place for place, run in enumerate(runs)}
    scale = 100.0 if "%" in column.group else 1.0
    for place, points in enumerate(known.values()):
        if not points:
            continue
        colour, style, marker = line_of(place)
        metrics = [metric for point in points if (metric := point.result.known(column.metric))]
        across = [order[point.at.slug] + 0.06 * (place - (len(known) - 1) / 2) for point in points]
        values = [scale * (metric.value or 0.0) for metric in metrics]
        below = [scale * (m.value - m.low) if m.value is not None and m.low is not None else 0.0 for m in metrics]
        above = [scale * (m.high - m.value) if m.value is not None and m.high is not None else 0.0 for m in metrics]
        panel.errorbar(
            across, values, [below, above], color=colour, linestyle=style, marker=marker, markersize=3.5, linewidth=1.0
        )
    every = max(1, -(-len(runs) // MOST_TICKS))
    ticks = range(0, len(runs), every)
    labels = ["\n".join(filter(None, (runs[tick].date, runs[tick].commit))) or runs[tick].slug for tick in ticks]
    panel.set_xticks(list(ticks), labels)
    panel.set_ylim(bottom=0.0)
    panel.set_ylabel(f"{column.title}{' (%)' if scale > 1 else ''} {column.arrow}")
