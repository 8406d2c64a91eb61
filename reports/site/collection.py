"""The runs of a site: found, ordered by time, and grouped so that each group is of one data set and protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import one_line
from bench.store import CARD, MANIFEST, Run
from reports.page.records import public
from reports.run_results import ModelResult, read_results, require_one_protocol

PREDICTION = "structure_prediction"  # the only task of a run of `bench csp`
DIGITS = 7  # of a commit or a checksum that are shown
UNKNOWN_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class SiteRun:
    """A finished run. slug: of its page, unique within the site."""

    run: Run
    results: Sequence[ModelResult]
    slug: str

    @property
    def created(self) -> datetime:
        """When it began; the earliest time there is where its manifest does not say it."""
        return _time(str(self.run.manifest.get("created", "")))

    @property
    def date(self) -> str:
        """Its day, empty where that is not known."""
        return "" if self.created == UNKNOWN_TIME else f"{self.created:%Y-%m-%d}"

    @property
    def code(self) -> dict[str, Any]:
        """Which code scored it last: its `sha256` and its `commit`, as far as they are known."""
        sessions = self.run.manifest.get("sessions") or [{}]
        return sessions[-1].get("code") or {}

    @property
    def commit(self) -> str:
        """The commit of the code that scored it last, shortened; empty where that is not known."""
        return str(self.code.get("commit", ""))[:DIGITS]

    @property
    def judge(self) -> str:
        """The potentials that its stability was judged by; empty without that task."""
        tasks = self.run.manifest["protocol"]["tasks"]
        names = [str(how.get("potential", {}).get("name", "")) for how in tasks.values() if "potential" in how]
        return ", ".join(filter(None, names))

    @property
    def has_page(self) -> bool:
        """Whether it can stand in a leaderboard: not a run of `bench csp`, nor one of `bench learn`."""
        return PREDICTION not in self.run.tasks and not self.trains

    @property
    def trains(self) -> bool:
        """Whether it is a run of `bench learn`, whose models are snapshots of trainings."""
        return "learning" in self.run.manifest


@dataclass(frozen=True)
class Group:
    """Runs whose figures mean the same: one data set, one protocol. slug: of its page."""

    slug: str
    runs: list[SiteRun] = field(default_factory=list)


@dataclass(frozen=True)
class Collection:
    """runs: the latest first. groups: those of most runs first. left_out: place -> why it is not in the site."""

    runs: Sequence[SiteRun]
    groups: Sequence[Group]
    left_out: Sequence[str]


def collect(places: Sequence[Path]) -> Collection:
    """The finished runs at some places: run folders, archives, rows, or folders that hold such.

    A run that cannot be read is left out and said. ValueError where none is left, or a place is not there.
    """
    runs: list[SiteRun] = []
    left_out: list[str] = []
    slugs: set[str] = set()
    for root in dict.fromkeys(path.resolve() for place in places for path in _roots(place)):
        try:
            results = read_results([root])
            if not results:
                raise ValueError("none of its models has a result")
            run = Run.open(root)
        except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:  # a damaged manifest raises these
            left_out.append(f"{root.name}: {public(one_line(error, limit=None))}")
            continue
        runs.append(SiteRun(run, results, _unused(slug_of(run.name), slugs)))
    if not runs:
        raise ValueError(f"no finished run in {', '.join(map(str, places))}: {'; '.join(left_out) or 'nothing there'}")
    runs.sort(key=lambda run: run.created, reverse=True)
    return Collection(runs, _groups(runs), left_out)


def slug_of(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"


def _roots(place: Path) -> Iterator[Path]:
    """The runs that a place names: itself, or what lies in it."""
    if place.is_file() or _holds_run(place):
        yield place
    elif place.is_dir():
        found = sorted(place.iterdir())
        yield from (path for path in found if path.suffix == ".zip" or _holds_run(path) or (path / CARD).is_file())
    else:
        raise ValueError(f"{place}: there is no such run or folder")


def _holds_run(place: Path) -> bool:
    return (place / MANIFEST).is_file()


def _groups(runs: Iterable[SiteRun]) -> list[Group]:
    """Each run joins the first group that it shares a protocol with; runs of most tasks make the groups."""
    groups: list[Group] = []
    slugs: set[str] = set()
    for run in sorted(runs, key=lambda run: -len(run.run.tasks)):
        if not run.has_page:
            continue
        group = next((group for group in groups if all(_same_protocol(run, other) for other in group.runs)), None)
        if group is None:
            protocol = str(run.run.manifest.get("protocol_hash", ""))[:8]
            group = Group(_unused(slug_of(f"{run.run.dataset}-{protocol}"), slugs))
            groups.append(group)
        group.runs.append(run)
    for group in groups:
        group.runs.sort(key=lambda run: run.created)
    return sorted(groups, key=lambda group: (group.runs[0].run.dataset, -len(group.runs)))


def _same_protocol(one: SiteRun, other: SiteRun) -> bool:
    """Whether two runs of one data set can stand in one table, and were scored by the same potentials."""
    if one.run.dataset != other.run.dataset:
        return False
    if one.judge and other.judge and one.judge != other.judge:
        return False
    try:
        require_one_protocol(one.run, other.run)
    except ValueError:
        return False
    return True


def _unused(slug: str, taken: set[str]) -> str:
    found, number = slug, 2
    while found in taken:
        found, number = f"{slug}-{number}", number + 1
    taken.add(found)
    return found


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return UNKNOWN_TIME
    return found if found.tzinfo else found.replace(tzinfo=UTC)
