"""The pages of a site, written into a folder and read from the disk: links between them are relative."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.atomic import read_json, write_bytes, write_json
from bench.errors import one_line
from reports.page.html_page import RANKS_CAPTION, render
from reports.page.html_table import HtmlTable, Td, Th, from_table1
from reports.page.records import public, record_tables
from reports.page.sections import Section
from reports.page.templating import render_template
from reports.run_results import read_results
from reports.site.collection import Collection, Group, SiteRun, collect
from reports.site.history import Point, histories, history_figures, history_keys, history_notes, history_table
from reports.tables import leaderboard as board
from reports.tables.columns import count
from reports.tables.formats import DASH

INDEX, RUNS, MARKER = "index.html", "runs", "site.json"
LATEST = "Of a model in several runs the latest stands here; the history below has all."
TITLE = "Runs of generative models of crystals"


def write_site(places: Sequence[Path], out: Path) -> str:
    """Writes the site of some runs into a folder; gives lines that say what it holds and what was left out.

    The same runs give the same bytes. Pages of an earlier site that are no longer needed go. ValueError where no run is
    finished, or the folder holds something else; OSError where it cannot be written.
    """
    earlier = _earlier_pages(out)
    found = collect(places)
    pages, left_out = {}, list(found.left_out)
    for run in found.runs:
        if run.has_page:
            try:
                pages[f"{RUNS}/{run.slug}.html"] = render([run.run.root], home=f"../{INDEX}")
            except Exception as error:  # whatever is damaged in one run, the others have their pages
                left_out.append(f"{run.run.name}, its own page: {public(one_line(error, limit=None))}")
    for group in found.groups:
        pages[f"{group.slug}.html"] = _group_page(group, pages)
    pages[INDEX] = _index(found, pages, left_out)
    (out / RUNS).mkdir(parents=True, exist_ok=True)
    write_json(out / MARKER, {"format": 1, "pages": sorted({*earlier, *pages})})
    for name, text in pages.items():
        write_bytes(out / name, text.encode())
    for name in earlier - pages.keys():
        (out / name).unlink(missing_ok=True)
    write_json(out / MARKER, {"format": 1, "pages": sorted(pages)})
    size = sum(len(text.encode()) for text in pages.values()) / 1e6
    first = f"Site: {out / INDEX} ({len(found.runs)} runs, {len(found.groups)} leaderboards, {size:.1f} MB)"
    return "\n".join([first, *(f"left out: {line}" for line in left_out)])


def _earlier_pages(out: Path) -> set[str]:
    """The pages that an earlier call wrote. ValueError where the folder is not empty and holds no site."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file; name a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return set()
    if not (out / MARKER).is_file():
        raise ValueError(f"--out {out}: holds other files and no site ({MARKER}); name another folder")
    pages = read_json(out / MARKER).get("pages", [])
    return {str(name) for name in pages if _is_page(str(name))}


def _is_page(name: str) -> bool:
    """Whether a name is one of a page: nothing else is ever removed."""
    path = Path(name)
    return path.suffix == ".html" and path.parent in (Path(), Path(RUNS)) and not path.is_absolute()


def _index(found: Collection, pages: Mapping[str, str], left_out: Sequence[str]) -> str:
    crystals = sum(result.requested for run in found.runs for result in run.results)
    return render_template(
        "site_index.html.j2",
        TITLE,
        [f"{len(found.runs)} runs, {crystals:,} crystals asked for, {len(found.groups)} leaderboards."],
        runs=_runs_table(found, pages),
        leaderboards=_groups_table(found.groups),
        left_out=left_out,
    )


def _runs_table(found: Collection, pages: Mapping[str, str]) -> HtmlTable:
    """A row for each run, the latest first."""
    words = ("Run", "Date", "Data set", "Models", "Stability by", "Leaderboard", "Version", "Commit")
    headers = [Th(title, numeric=False) for title in words]
    headers.insert(4, Th("Crystals"))
    group_of = {run.slug: group for group in found.groups for run in group.runs}
    rows = []
    for run in found.runs:
        page, group = f"{RUNS}/{run.slug}.html", group_of.get(run.slug)
        none = "training: none" if run.trains else "structure prediction: none"
        rows.append(
            [
                Td(run.run.name, header=True, href=page if page in pages else ""),
                Td(run.date or DASH),
                Td(run.results[0].dataset),
                Td(", ".join(result.method for result in run.results)),
                Td(count(sum(result.requested for result in run.results), 0)),
                Td(run.judge or DASH),
                Td(group.slug, href=f"{group.slug}.html") if group else Td(none),
                Td(str(run.run.manifest.get("software", {}).get("crysldm-bench", DASH))),
                Td(run.commit or DASH),
            ]
        )
    return HtmlTable("runs-table", "All runs, the latest first", headers, [rows], filtered=True)


def _groups_table(groups: Sequence[Group]) -> HtmlTable:
    """A row for each data set and protocol."""
    words = ("Leaderboard", "Data set", "Stability by", "Latest")
    headers = [Th(title, numeric=False) for title in words] + [Th("Runs"), Th("Models with a history")]
    rows = [
        [
            Td(group.slug, header=True, href=f"{group.slug}.html"),
            Td(group.runs[0].results[0].dataset),
            Td(_judge(group) or DASH),
            Td(group.runs[-1].date or DASH),
            Td(str(len(group.runs))),
            Td(str(len(histories(group.runs)))),
        ]
        for group in groups
    ]
    return HtmlTable("leaderboards-table", "One for each data set and protocol", headers, [rows])


def _group_page(group: Group, pages: Mapping[str, str]) -> str:
    """The leaderboard of a group, how its models' metrics moved, and its protocol."""
    found = histories(group.runs)
    judge = _judge(group)
    latest = {result.method: result.key for run in group.runs for result in run.results}
    results = read_results([run.run.root for run in group.runs])
    shown = board.compose([result for result in results if result.key in latest.values()])
    if found:
        shown = replace(shown, remarks=[*shown.remarks, LATEST])
    dataset = results[0].dataset
    return render_template(
        "site_group.html.j2",
        f"{dataset}: leaderboard and history",
        [f"{_number(group.runs)} of one protocol{f', stability by {judge}' if judge else ''}."],
        INDEX,
        leaderboard=_with_links(from_table1(shown, "ranks", RANKS_CAPTION), group.runs, pages),
        history=_history(group, found),
        protocol=record_tables(results)[0],
    )


def _history(group: Group, found: Mapping[str, Sequence[Point]]) -> Section:
    title = "History: the same model in more than one run"
    if not found:
        return Section(
            "history", title, missing="No model is in two runs of this protocol, so there is no history yet."
        )
    tables = [
        history_table(method, points, f"history{place}", f"{RUNS}/")
        for place, (method, points) in enumerate(found.items())
    ]
    return Section(
        "history",
        title,
        "Runs in the order of their dates, with 95 % intervals. A metric has moved where 0 lies outside the "
        "interval of the difference; seconds are compared on one device only. Beside each move stands what changed of "
        "software, code, device, seeds, weights and data since the run before.",
        figures=[("", history_figures(found, f"{group.slug}-history"))],
        keys=history_keys(found, "history"),
        tables=tables,
        notes=history_notes(found),
    )


def _with_links(table: HtmlTable, runs: Sequence[SiteRun], pages: Mapping[str, str]) -> HtmlTable:
    """The leaderboard with each run's name leading to its page, where no other run of it has that name."""
    column = next((place for place, head in enumerate(table.headers) if head.text == "Run"), None)
    if column is None:
        return table
    names = Counter(run.run.name for run in runs)
    known = [run for run in runs if names[run.run.name] == 1 and f"{RUNS}/{run.slug}.html" in pages]
    address = {run.run.name: f"{RUNS}/{run.slug}.html" for run in known}

    def linked(row: Sequence[Td]) -> list[Td]:
        cell = row[column]
        return [*row[:column], replace(cell, href=address.get(cell.text, "")), *row[column + 1 :]]

    return replace(table, bodies=[[linked(row) for row in body] for body in table.bodies])


def _judge(group: Group) -> str:
    return next((run.judge for run in group.runs if run.judge), "")


def _number(runs: Sequence[SiteRun]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"
