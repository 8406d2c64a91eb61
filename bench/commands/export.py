"""`bench export`: crystals of a run in a file, with what is known of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import registry
from bench.commands.chosen import Chosen, Judge, choose, judges
from bench.commands.given import Only
from bench.crystal_io.with_properties import require_known_ending, write_with_properties
from bench.crystals import Crystals
from bench.datasets import dataset_spec
from bench.errors import one_line
from bench.progress import say
from bench.run_folder.ledger import kind_of_reason
from bench.store import Run

if TYPE_CHECKING:
    import pyarrow as pa

NAMES_SHOWN = 5  # of crystals that were left out for one reason


@dataclass(frozen=True)
class Asked:
    """What is to be written. models: None for all that ran. potential: whose verdict, None for the run's first."""

    models: Sequence[str] | None = None
    only: Only | None = None
    potential: str | None = None
    relaxed: bool = False


def export(root: Path, out: Path, asked: Asked) -> str:
    """Writes crystals of a finished run; gives lines that say which, and which were left out and why.

    ValueError, before anything is written, where `out` exists or has an unknown ending, the run has no such model or
    potential or lacks the tables that are asked for, or no crystal is left.
    """
    require_known_ending(out)
    if out.exists():
        raise ValueError(f"--out {out}: is there already; delete it or choose another name")
    run = Run.open(root)
    run.summary()  # a run that is not finished has other crystals tomorrow
    judge = _judge(run, asked)
    models = _models(run, asked.models)
    found = [choose(run, m, r, asked.only, judge) for m in models for r in range(len(run.folders(m)))]
    lines = [_what(run, judge, found, asked), *_undecided(found)]
    if asked.relaxed:
        lines += _left_out(found)
    crystals, properties, names = _content(run, found, asked.relaxed)
    lines += _changed(properties)
    if not names:
        raise ValueError(f"{root}: no crystal to write; {'; '.join(lines)}{_remedy(run, found, asked)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    width = len(str(len(names) - 1))
    write_with_properties(crystals, properties, [f"{n:0{width}d}-{name}" for n, name in enumerate(names)], out)
    return "\n".join([f"{out}: {lines[0]}", *lines[1:]])


def _models(run: Run, names: Sequence[str] | None) -> list[str]:
    """Those asked for, once each. ValueError names one that the run does not have, or that could not run."""
    for name in names or ():
        run.folders(name)
        if name in run.skipped:
            raise ValueError(f"{run.root}: {name} could not run: {run.manifest['models'][name]['skipped']}")
    return [name for name in (run.models if names is None else dict.fromkeys(names)) if name not in run.skipped]


def _judge(run: Run, asked: Asked) -> Judge | None:
    """The stability task of the potential asked for, else the first. ValueError where it is wanted and not there."""
    known = judges(run)
    remedy = f"`bench rescore {run.root} --tasks stability{' --out FOLDER' * run.is_archive}` computes it"
    if not known and (asked.relaxed or asked.potential or asked.only in (Only.stable, Only.sun)):
        raise ValueError(f"{run.root}: the run has no stability; {remedy}")
    if asked.potential is None:
        return known[0] if known else None
    for judge in known:
        if judge.potential == asked.potential:
            return judge
    names = ", ".join(judge.potential for judge in known)
    raise ValueError(f"--potential {asked.potential}: {run.root} has stability by {names}")


def _content(run: Run, found: Sequence[Chosen], relaxed: bool) -> tuple[Crystals, pa.Table, list[str]]:
    """Crystals, one row of properties for each, and their names."""
    import pyarrow as pa

    masks = [part.has_relaxed if relaxed else np.ones(len(part.places), dtype=bool) for part in found]
    whole = pa.concat_tables(
        [part.properties.filter(pa.array(mask)) for part, mask in zip(found, masks, strict=True)],
        promote_options="default",
    )
    if not relaxed and "energy" in whole.column_names:
        whole = whole.drop_columns(["energy"])  # of another geometry than the one beside it
    given = Crystals.concatenate([part.given[mask] for part, mask in zip(found, masks, strict=True)])
    after = Crystals.concatenate([part.relaxed for part in found])
    if len(after):
        has_relaxed = np.concatenate([part.has_relaxed[mask] for part, mask in zip(found, masks, strict=True)])
        changed = registry.plugin("relaxed", "changes")
        rules = run.manifest.get("rules")
        changes = changed(run.dataset, given, after, has_relaxed, _tasks_at_hand(run), rules)
        for name, column in changes.items():
            whole = whole.append_column(name, column)
    geometry = pa.array(["relaxed" if relaxed else "as generated"] * whole.num_rows, pa.string())
    names = [part.name(p) for part, mask in zip(found, masks, strict=True) for p in part.places[mask].tolist()]
    return after if relaxed else given, whole.append_column("geometry", geometry), names


def _tasks_at_hand(run: Run) -> list[str]:
    """The run's tasks, without novelty where the package that brought the data set is no longer installed."""
    try:
        dataset_spec(run.dataset)
    except ValueError as error:
        say(f"no column novel_relaxed: {one_line(error)}")
        return [task for task in run.tasks if task != "novelty"]
    return run.tasks


def _changed(properties: pa.Table) -> Iterator[str]:
    """How many crystals are not what they were once they are relaxed, as far as both is known."""
    pairs = {
        "space group": ("space_group_as_generated", "space_group_relaxed"),
        "validity": ("valid", "valid_relaxed"),
        "novelty": ("novel", "novel_relaxed"),
    }
    counts = []
    for what, columns in pairs.items():
        if set(columns) <= set(properties.column_names):
            before, after = (properties[name].to_pylist() for name in columns)
            known = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
            counts.append(f"{sum(a != b for a, b in known)} of {len(known)} in {what}")
    if counts:
        yield f"changed by relaxing: {', '.join(counts)}"


def _what(run: Run, judge: Judge | None, found: Sequence[Chosen], asked: Asked) -> str:
    """How many crystals, by which filter and whose verdict."""
    counts = {part.model: 0 for part in found}
    for part in found:
        counts[part.model] += int(part.has_relaxed.sum()) if asked.relaxed else len(part.places)
    by = "" if judge is None else f" by {judge.potential}"
    filters = {
        None: "all that exist",
        Only.valid: "valid",
        Only.stable: f"stable{by}",
        Only.sun: f"stable{by}, unique and novel",
    }
    others = [f"--potential {other.potential}" for other in judges(run) if other != judge]
    more = f" (also: {', '.join(others)})" if others and judge is not None and asked.potential is None else ""
    requested = sum(part.requested for part in found)
    of_each = f" ({', '.join(f'{model} {count}' for model, count in counts.items())})" if len(counts) > 1 else ""
    geometry = f"relaxed{by}" if asked.relaxed else "as generated"
    return f"{sum(counts.values())} of {requested} crystals{of_each}, {filters[asked.only]}{more}, {geometry}"


def _undecided(found: Sequence[Chosen]) -> Iterator[str]:
    if number := sum(part.undecided for part in found):
        yield f"left out: {number} stable and unique, of which it is not known whether they are novel"


def _left_out(found: Sequence[Chosen]) -> Iterator[str]:
    """One line for each kind of reason why a crystal has no relaxed geometry."""
    names: dict[str, list[str]] = defaultdict(list)
    for part in found:
        for place, why in zip(part.places.tolist(), part.why_not, strict=True):
            if why is not None:
                names[kind_of_reason(why)].append(part.name(place))
    for why, those in names.items():
        more = f" and {len(those) - NAMES_SHOWN} more" if len(those) > NAMES_SHOWN else ""
        shown = ", ".join(those[:NAMES_SHOWN])
        yield f"left out: {len(those)} without a relaxed geometry ({why}): {shown}{more}"


def _remedy(run: Run, found: Sequence[Chosen], asked: Asked) -> str:
    """What would help where the run keeps no relaxed crystals at all."""
    if asked.relaxed and any(len(part.places) for part in found):
        return f"; `bench rescore {run.root} --tasks stability{' --out FOLDER' * run.is_archive}` relaxes them"
    return ""
