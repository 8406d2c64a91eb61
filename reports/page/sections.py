"""What a page says of one data set: a section for each subject, with a sentence in place of what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.datasets import DATASETS, split_counts
from reports.figures.cost_quality import COSTS, models, pairs_rows, qualities
from reports.figures.hull_histogram import hull_histograms
from reports.page import distributions
from reports.page.best_crystals import BestCrystals, best_crystals
from reports.page.figures import (
    Group,
    Key,
    distribution_figures,
    family_places,
    hull_figures,
    legend,
    pareto_figures,
    places_of,
    yield_figures,
)
from reports.page.html_table import HtmlTable, simple_table
from reports.page.ledger_funnel import Funnel, funnel, reasons_table
from reports.page.periodic_table import PeriodicTable, elements_table, periodic_table
from reports.page.stored_counts import model_counts
from reports.run_results import ModelResult, one_device
from reports.tables.by_size import NOTE as SIZE_NOTE
from reports.tables.by_size import SIZES, rates_by_size, shown_rate
from reports.tables.by_size import TITLES as SIZE_TITLES
from reports.tables.columns import distance, three_digits, with_interval
from reports.tables.disagreements import NOTE, read_votes
from reports.tables.formats import DASH
from reports.yields.curves import AXES, Axis
from reports.yields.stored import yield_curves
from reports.yields.tables import by_time, common_cost, cost_rows, lead_lines, leads, notes, reading_rows

MOST_CRYSTALS, CRYSTALS_IN_ALL = 4, 40  # of one model, and of a data set
HULL, CRYSTALS = "Figure 2: energy above hull", "The best crystals"
SPREAD, ELEMENTS = "Distributions beside the test split", "Elements beside the test split"
TIMES: tuple[Axis, ...] = ("seconds", "end_to_end")


@dataclass(frozen=True)
class Section:
    """One subject. name: its anchor. missing: why there is nothing to show, else empty.

    intro, notes: sentences above and below. bars: what grey bars are, for the legend. more: lines to unfold.
    """

    name: str
    title: str
    intro: str = ""
    missing: str = ""
    figures: Sequence[Group] = ()
    keys: Sequence[Key] = ()
    bars: str = ""
    tables: Sequence[HtmlTable] = ()
    notes: Sequence[str] = ()
    more_title: str = ""
    more: Sequence[str] = ()
    funnels: Sequence[Funnel] = ()
    elements: Sequence[PeriodicTable] = ()
    crystals: Sequence[BestCrystals] = ()


@dataclass(frozen=True)
class DatasetPart:
    """All sections of a data set. name: prefix of its anchors."""

    name: str
    title: str
    sections: Sequence[Section] = field(default=())


def dataset_part(results: Sequence[ModelResult]) -> DatasetPart:
    """The sections of the models of one data set. Rows come last: their folders hold scores, not crystals."""
    name = results[0].run.dataset
    own = [result for result in results if result.card is None]
    results = [*own, *(result for result in results if result.card is not None)]
    of_crystals = [_hull(own, name), *_distributions(own, name), _crystals(own, name)] if own else _of_rows(name)
    sections = [
        _ledger(results, name),
        _yields(results, name),
        _quality(results, name),
        *_by_size(own, name),
        *_disagreements(own, name),
        *of_crystals,
        _reasons(results, name),
    ]
    return DatasetPart(name, results[0].dataset, sections)


def _ledger(results: Sequence[ModelResult], name: str) -> Section:
    funnels = [funnel(result) for result in results]
    empty = [entry.method for entry in funnels if not entry.steps]
    remark = [f"No ledger is stored of {', '.join(empty)}; `python -m bench rescore DIR` writes it."] if empty else []
    return Section(
        f"{name}-ledger",
        "The ledger: what is left of the crystals asked for",
        "Bars are in percent of the crystals asked for. Valid, relaxed, unique and new are each counted among all "
        "crystals, not among those of the bar above.",
        missing="" if len(empty) < len(funnels) else remark[0],
        funnels=[entry for entry in funnels if entry.steps],
        notes=remark,
    )


def _yields(results: Sequence[ModelResult], name: str) -> Section:
    anchor, title = f"{name}-yield", "The yield: good crystals for what they cost"
    curves = [curve for result in results for curve in yield_curves(result)]
    comparable = one_device(results)
    axes = [axis for axis in AXES if comparable or axis not in TIMES]
    curves = [curve for curve in curves if curve.axis in axes]
    apart = "" if comparable else "Device seconds are left out: the runs were sampled on different devices or threads."
    if not curves:
        missing = (
            "No model here has crystals that were scored and batches whose cost is known, so there is no yield curve."
        )
        return Section(anchor, title, missing=" ".join(filter(None, [missing, apart])))
    places = places_of(results)
    shown = {curve.method: places[curve.method] for curve in curves}
    timed = by_time(curves) or curves
    axis = timed[0].axis
    own = [curve for curve in curves if curve.axis == axis]
    common = common_cost(own)
    tables = [
        simple_table(
            f"{anchor}-by",
            f"By {three_digits(common, 0)} {AXES[axis]}, which every model spent",
            *reading_rows(own, common),
        ),
        simple_table(
            f"{anchor}-cost", f"{AXES[axis].capitalize()} to the n-th crystal, expected", *cost_rows(own), words=2
        ),
    ]
    without = [result.method for result in results if result.method not in shown]
    remarks = list(notes(own))
    if without:
        remarks.append(f"Without a curve, as what they cost is not known or next to nothing: {', '.join(without)}.")
    return Section(
        anchor,
        title,
        "How many good crystals each model had given by a cost, on logarithmic scales; bands are 95 % intervals. "
        + apart,
        figures=yield_figures(curves, places, axes, name),
        keys=legend(shown, anchor),
        tables=tables,
        notes=remarks,
        more_title=f"Which model has more, by {AXES[axis]}",
        more=lead_lines(leads(own)),
    )


def _quality(results: Sequence[ModelResult], name: str) -> Section:
    anchor, title = f"{name}-quality", "Quality against cost"
    with_network = models(results)
    comparable = one_device(results)
    costs = [cost for cost in COSTS if comparable or "seconds" not in cost]
    if len(with_network) < 2 or not qualities(with_network):
        return Section(
            anchor,
            title,
            missing="This takes two models whose network evaluations are known and whose quality was scored.",
        )
    places = family_places(results)
    headers, pairs = pairs_rows(with_network)
    tables = []
    if pairs:
        caption = "Different models at equal network evaluations (* better beyond noise, Holm-corrected)"
        titles = [headers[1], headers[0], *headers[2:]]
        rows = [[row[1], row[0], *row[2:]] for pair in pairs for row in pair]
        tables.append(simple_table(f"{anchor}-pairs", caption, titles, rows))
    return Section(
        anchor,
        title,
        "One point for each model and number of steps, which stands beside it. Filled: nothing is cheaper and better. "
        "The grey band is what real crystals reach.",
        figures=pareto_figures(with_network, places, costs, name),
        keys=legend(places, anchor, line=False),
        tables=tables,
    )


def _by_size(results: Sequence[ModelResult], name: str) -> list[Section]:
    """Rates by the number of atoms; nothing where all that were counted are of one group of sizes."""
    counted = [result for result in results if result.run.has_table(result.model, SIZES)]
    rows = [
        [result.method, group, f"{number:,}", *map(shown_rate, rates)]
        for result in counted
        for group, number, rates in rates_by_size(result)
    ]
    if len({row[1] for row in rows}) < 2:
        return []
    anchor, title = f"{name}-sizes", "Rates by number of atoms"
    table = simple_table(f"{anchor}-table", "Crystals of each size", ["Model", *SIZE_TITLES], rows, words=2)
    return [Section(anchor, title, SIZE_NOTE, tables=[table])]


def _disagreements(results: Sequence[ModelResult], name: str) -> list[Section]:
    """A table for each model that several potentials judged; nothing where there is none."""
    votes = [found for result in results if (found := read_votes(result))]
    if not votes:
        return []
    anchor = f"{name}-disagreements"
    tables = []
    for place, found in enumerate(votes):
        titles = ["Chemistry", "Crystals", *(f"{title} (%)" for title in found.titles)]
        rows = [[kind, f"{number:,}", *map(shown_rate, rates)] for kind, number, rates in found.rows()]
        tables.append(simple_table(f"{anchor}{place}", found.result.method, titles, rows))
    return [Section(anchor, "Disagreements: stable by some potentials and not by others", NOTE, tables=tables)]


def _of_rows(name: str) -> list[Section]:
    """In place of the sections that show crystals, where all are published models."""
    missing = "The folder of a published model holds its scores, not its crystals, so they are not shown here."
    titles = {"hull": HULL, "spread": SPREAD, "elements": ELEMENTS, "crystals": CRYSTALS}
    return [Section(f"{name}-{part}", title, missing=missing) for part, title in titles.items()]


def _hull(results: Sequence[ModelResult], name: str) -> Section:
    anchor, title = f"{name}-hull", HULL
    relaxed = [result for result in results if result.run.has_table(result.model, "stability")]
    if not relaxed:
        missing = "No crystal was relaxed; `python -m bench rescore DIR --tasks stability` does it."
        return Section(anchor, title, missing=missing)
    return Section(
        anchor,
        title,
        "Relaxed crystals, in percent of those asked for, on the same axes. Dashed: the line below which a crystal "
        "counts as stable. The triangle is the median; hatched: the relaxation did not converge.",
        figures=[("", hull_figures(hull_histograms(relaxed), name))],
    )


def _distributions(results: Sequence[ModelResult], name: str) -> list[Section]:
    anchor, title = f"{name}-spread", SPREAD
    others = f"{name}-elements", ELEMENTS
    try:
        split = split_counts(name)
    except ValueError:
        if name in DATASETS:
            raise
        missing = f"Nothing is known of the test split of {name}; `bench data {name} --reference FOLDER` counts it."
        return [Section(anchor, title, missing=missing), Section(*others, missing=missing)]
    counts = {result.method: model_counts(result) for result in results}
    present = {method: found for method, found in counts.items() if found.crystals}
    absent = [method for method in counts if method not in present]
    remarks = [f"Without a valid crystal: {', '.join(absent)}."] if absent else []
    if not present:
        return [Section(anchor, title, missing=remarks[0]), Section(*others, missing=remarks[0])]
    places = places_of(results)
    found = {quantity: distributions.distributions(quantity, split, present) for quantity in distributions.TITLES}
    tables = [distributions.spread_table(f"{anchor}-numbers", split, present)]
    distances = _distances(results)
    if distances is not None:
        tables.append(simple_table(f"{anchor}-emd", "Earth mover's distance to the test split", *distances))
    numbers = ", ".join(f"{method} {own.crystals:,}" for method, own in present.items())
    spread = Section(
        anchor,
        title,
        f"Valid crystals ({numbers}) beside the {split.crystals:,} of the test split. Cells are shown as they were "
        "handed over; those of the test split are Niggli-reduced.",
        figures=[("", distribution_figures(found, places, name))],
        keys=legend({method: places[method] for method in present}, anchor),
        bars="test split",
        tables=tables,
        notes=[*remarks, *distributions.beyond(found)],
    )
    elements = Section(
        *others,
        "Upper half of each cell: share of the test split's atoms; lower half: the model's, on one logarithmic scale. "
        "Halves that differ are elements that the model uses too often or too rarely.",
        elements=[periodic_table(method, split, own) for method, own in present.items()],
        tables=[elements_table(f"{name}-elements-shares", split, present)],
        notes=remarks,
    )
    return [spread, elements]


def _crystals(results: Sequence[ModelResult], name: str) -> Section:
    most = min(MOST_CRYSTALS, max(1, CRYSTALS_IN_ALL // len(results)))
    return Section(
        f"{name}-crystals",
        CRYSTALS,
        "Lowest above the hull first, equal ones once. Shown as they were sampled; the energy is that of the relaxed "
        "crystal.",
        crystals=[best_crystals(result, most) for result in results],
    )


def _reasons(results: Sequence[ModelResult], name: str) -> Section:
    anchor, title = f"{name}-reasons", "Failures by reason"
    table = reasons_table(results, f"{anchor}-table")
    if table is None:
        return Section(anchor, title, missing="Nothing was lost, or the runs keep no reasons.")
    return Section(
        anchor,
        title,
        "Numbers within a reason are left out (..), so that equal reasons count together. A crystal may have one of "
        "each stage.",
        tables=[table],
    )


def _distances(results: Sequence[ModelResult]) -> tuple[list[str], list[list[str]]] | None:
    """Titles and rows of the distances to the test split; None where no model has one."""
    columns = {"emd_density": "Density (g/cm³)", "emd_num_elements": "Number of elements"}
    rows = []
    for result in results:
        cells = [with_interval(result.known(metric), distance) for metric in columns]
        if set(cells) != {DASH}:
            rows.append([result.method, *cells])
    return (["Model", *columns.values()], rows) if rows else None
