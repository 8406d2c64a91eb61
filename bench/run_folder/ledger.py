"""The ledger: how many crystals are left after each stage, and why the others are not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bench.parquet import open_table
from bench.run_folder.shards import SampleFolder
from bench.store import Run

if TYPE_CHECKING:
    import pyarrow as pa

# Stages after "parsed", in order: task and column. A boolean column counts where it is true, another where it is known.
STAGES = {
    "valid": ("validity", "valid"),
    "relaxed": ("stability", "energy_per_atom"),
    "converged": ("stability", "converged"),
    "stable": ("stability", "stable"),
    "unique": ("novelty", "unique"),
    "novel": ("novelty", "novel"),
    "matched": ("structure_prediction", "match"),
}
REASONS_SHOWN = 20
PLACE = re.compile(r" \[in (.*)\]$")
NUMBER = re.compile(r"(?<![\w^])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def ledger(run: Run, model: str) -> dict[str, Any]:
    """Crystals of a model by stage, over all repeats, with equal reasons counted together under "reasons".

    requested: asked for within the budget. generated: handed over by the generator or file, crystals or not.
    parsed: crystals. Stages of tasks that were not scored are left out.
    """
    folders = run.folders(model)
    requested = sum(folder.counted for folder in folders)
    generated = sum(batch.handed_over for folder in folders for batch in folder.batches if batch.counted)
    lost = count_reasons(column for folder in folders for column in sample_reasons(folder))
    content: dict[str, Any] = {
        "requested": requested,
        "generated": generated,
        "parsed": requested - lost.total(),
    }
    scored = [task for task in run.tasks if run.has_table(model, task)]
    for stage, (task, column) in STAGES.items():
        if task in scored:
            content[stage] = sum(count_known(batch.column(0)) for batch in run.scan(model, task, [column]))
    reasons = {"parsed": lost}
    for task in scored:
        if "reason" in run.task_columns(model, task):
            reasons[task] = count_reasons(batch.column(0) for batch in run.scan(model, task, ["reason"]))
    content["reasons"] = {stage: most_common(counts) for stage, counts in reasons.items() if counts}
    return content


def sample_reasons(folder: SampleFolder) -> Iterator[pa.Array]:
    """Why there is no crystal, null where there is one, over the counted crystals of a folder."""
    left = folder.counted
    for shard in folder.shards():
        with open_table(shard.path) as file:
            for batch in file.iter_batches(columns=["reason"]):
                yield batch.column(0).slice(0, max(left, 0))
                left -= batch.num_rows


def count_known(column: pa.Array) -> int:
    """True values of a boolean column, values that are not null of another."""
    import pyarrow as pa

    return int(column.true_count) if pa.types.is_boolean(column.type) else len(column) - int(column.null_count)


def count_reasons(columns: Iterable[pa.Array]) -> Counter[str]:
    """How often each kind of reason occurs, with the first place in a file where it does; null is none."""
    import pyarrow.compute as pc

    counts: Counter[str] = Counter()
    places: dict[str, str] = {}
    for column in columns:
        for entry in pc.value_counts(column.drop_null()).to_pylist():
            kind = kind_of_reason(entry["values"])
            counts[kind] += entry["counts"]
            if place := PLACE.search(entry["values"]):
                places.setdefault(kind, place[1])
    return Counter({_with_places(kind, places.get(kind), count): count for kind, count in counts.items()})


def _with_places(kind: str, place: str | None, count: int) -> str:
    if place is None:
        return kind
    return reason_with_place(kind, place if count == 1 else f"{place} and {count - 1} more")


def reason_with_place(reason: str, place: str) -> str:
    """A reason with the name of the place in a file where there is no crystal."""
    return f"{reason} [in {place}]"


def kind_of_reason(reason: str) -> str:
    """A reason without its place and numbers, so that crystals lost in the same way count as one."""
    return NUMBER.sub("..", PLACE.sub("", reason))


def most_common(counts: Counter[str]) -> dict[str, int]:
    """The most frequent reasons, the others added up."""
    shown = dict(counts.most_common(REASONS_SHOWN))
    others = counts.total() - sum(shown.values())
    return {**shown, "other reasons": others} if others else shown
