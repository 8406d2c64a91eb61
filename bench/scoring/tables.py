"""Tasks on stored crystals: chunk by chunk, each chunk's rows kept until the table is whole."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bench.arrays import IntArray
from bench.atomic import remove_left_over, replacement, write_bytes
from bench.crystals import Crystals, FilteredCrystals
from bench.interfaces import Task
from bench.parquet import open_table, read_table, table_bytes, table_writer, write_table
from bench.progress import progress, say
from bench.run_folder.shards import RELAXED, SampleFolder, read_shard
from bench.store import read_state, write_state

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_CRYSTALS = 500  # of a task that names no number of its own; a kill loses the chunks in flight
BATCH_CHUNKS = 4  # of a batch that is scored at once, so that all workers have a share
STATE_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Chunk:
    """Rows first_row .. first_row + num_rows - 1 of a model: those from `start` on in one shard file."""

    shard: Path
    start: int
    first_row: int
    num_rows: int


class Scorer(Protocol):
    """Whatever computes the rows of chunks: processes of this machine, or of others."""

    def score(self, task: Task, todo: Sequence[tuple[Chunk, Path]]) -> Iterator[int]:
        """Scores the chunks into their files, in any order; gives the rows of each as it is done."""

    def warm_up(self, crystals: Crystals) -> None:
        """Loads what scoring loads first; these crystals may be scored for that."""


def chunks(folder: SampleFolder, size: int, only: int | None = None) -> Iterator[Chunk]:
    """The counted crystals of a folder, at most `size` in each chunk, cut at the same places whenever they are cut.

    Where each batch was scored when it had been sampled, it has chunks of its own. only: those of this batch.
    """
    counted = folder.counted
    by_batch = only is not None or any(batch.scoring_s is not None for batch in folder.batches)
    for shard in folder.shards():
        spans = [(shard.first_row, shard.num_rows, size)]
        if by_batch:
            numbers = range(shard.first_batch, shard.first_batch + shard.num_batches)
            rows = [(number, folder.batches[number].num_crystals) for number in numbers if only in (None, number)]
            spans = [(folder.first_rows[n], count, min(size, -(-count // BATCH_CHUNKS))) for n, count in rows]
        for first, count, piece in spans:
            for first_row in range(first, min(first + count, counted), piece):
                num_rows = min(piece, first + count - first_row, counted - first_row)
                yield Chunk(folder.samples / shard.path.name, first_row - shard.first_row, first_row, num_rows)


def score_rows(task: Task, filtered: FilteredCrystals, first_row: int) -> pa.Table:
    """One row per crystal asked for, in the task's schema. Where there is no crystal: booleans false, numbers null.

    ValueError where the task gives other rows or columns than it should.
    """
    return score_and_keep(task, filtered, first_row)[0]


def score_and_keep(task: Task, filtered: FilteredCrystals, first_row: int) -> tuple[pa.Table, pa.Table | None]:
    """What `score_rows` gives, and the relaxed crystals with their `index`, of a task that has any.

    ValueError as there.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = task.schema
    columns = [name for name in schema.names if name != "index"]
    kept: pa.Table | None = None
    if not len(filtered.crystals):
        scored = schema.empty_table()
    elif hasattr(task, "score_at"):
        scored = task.score_at(filtered.crystals, first_row + filtered.indices)
    elif hasattr(task, "score_and_relaxed"):
        scored, kept = task.score_and_relaxed(filtered.crystals)
        places = pa.array(first_row + filtered.indices[kept["index"].to_numpy()])
        kept = kept.set_column(kept.schema.get_field_index("index"), "index", places)
    else:
        scored = task.score(filtered.crystals)
    if scored.num_rows != len(filtered.crystals) or set(scored.column_names) - {"index"} != set(columns):
        raise ValueError(
            f"task {task.name}: gave {scored.num_rows} rows of {', '.join(scored.column_names)} for "
            f"{len(filtered.crystals)} crystals and the columns {', '.join(columns)}"
        )
    source = np.full(filtered.requested, -1)
    source[filtered.indices] = np.arange(len(filtered.crystals))
    missing = source < 0
    take = pa.array(source, mask=missing)
    arrays = []
    for field in schema:
        if field.name == "index":
            arrays.append(pa.array(np.arange(first_row, first_row + filtered.requested)))
            continue
        column = scored[field.name].combine_chunks().take(take)
        if field.name == "reason" and filtered.reasons:
            own = column.to_pylist()
            column = pa.array(
                [filtered.reasons.get(place, own[place]) for place in range(filtered.requested)], pa.string()
            )
        elif pa.types.is_boolean(field.type) and missing.any():
            column = pc.if_else(pa.array(missing), pa.scalar(False), column)
        arrays.append(column.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema), kept


def score_chunk(task: Task, chunk: Chunk, part: Path) -> int:
    """Scores a chunk and writes its rows to a file of their own; gives their number."""
    rows = read_shard(chunk.shard).rows(chunk.start, chunk.start + chunk.num_rows)
    table, kept = score_and_keep(task, rows, chunk.first_row)
    keep_relaxed(part, None if kept is None else table_bytes(kept))
    write_table(part, table)
    return chunk.num_rows


def relaxed_file(part: Path) -> Path:
    """Where the relaxed crystals of a chunk go, by the file of its rows: MODEL/relaxed/TASK.ROW.parquet."""
    return part.parents[2] / RELAXED / f"{part.parent.name}.{part.name}"


def keep_relaxed(part: Path, content: bytes | None) -> None:
    """Writes them, where there are any. Comes before the rows: a chunk that has its rows is not scored again."""
    if content is not None:
        relaxed_file(part).parent.mkdir(exist_ok=True)
        write_bytes(relaxed_file(part), content)


def _tidy_relaxed(folder: Path, task: Task, parts: Sequence[Path]) -> None:
    """Removes the files of chunks that were cut at other places, and what a kill left."""
    current = {relaxed_file(part) for part in parts}
    for path in set((folder / RELAXED).glob(f"{task.name}.*.parquet")) - current:
        path.unlink()
    remove_left_over(folder / RELAXED)


def score_in_memory(tasks: Sequence[Task], filtered: FilteredCrystals) -> dict[str, pa.Table]:
    """The finished table of each task, for crystals that are not in a run."""
    whole = functools.partial(crystals_of, filtered)
    return {task.name: finished(task, score_rows(task, filtered, 0), whole) for task in tasks}


def score(tasks: Sequence[Task], model: str, folder: SampleFolder, pool: Scorer) -> None:
    """Writes <task>.parquet of every task that has none yet, and counts the seconds in the folder's state."""
    for task in tasks:
        table = folder.path / f"{task.name}.parquet"
        if holds_rows(table, folder.counted):
            continue
        todo, files = chunks_and_parts(task, folder)
        open_chunks = [(c, f) for c, f in zip(todo, files, strict=True) if not holds_rows(f, c.num_rows)]
        total = sum(chunk.num_rows for chunk in todo)
        done = total - sum(chunk.num_rows for chunk, _ in open_chunks)
        stopwatch = Stopwatch(folder.path, task.name)
        with progress(f"{model}: {task.name}", total, "crystals", done) as advance:
            for num_rows in pool.score(task, open_chunks):
                advance(num_rows, num_rows)
                stopwatch.lap()
        _tidy_relaxed(folder.path, task, files)
        merge(task, files, table, functools.partial(stored_crystals, folder))
        stopwatch.lap(last=True)
        shutil.rmtree(folder.path / "parts" / task.name)
    if (folder.path / "parts").is_dir():
        shutil.rmtree(folder.path / "parts")


def chunks_and_parts(task: Task, folder: SampleFolder, only: int | None = None) -> tuple[list[Chunk], list[Path]]:
    """Chunks of a folder, or of one batch, and the file of each one's rows; the files' folder is made."""
    parts = folder.path / "parts" / task.name
    parts.mkdir(parents=True, exist_ok=True)
    todo = list(chunks(folder, getattr(task, "chunk_crystals", CHUNK_CRYSTALS), only))
    return todo, [parts / f"{chunk.first_row:09d}.parquet" for chunk in todo]


def holds_rows(path: Path, num_rows: int) -> bool:
    """Whether a Parquet file is there, whole, and has that many rows."""
    import pyarrow as pa

    try:
        with open_table(path) as file:
            return bool(sum(batch.num_rows for batch in file.iter_batches()) == num_rows)
    except FileNotFoundError:
        return False
    except (pa.ArrowException, OSError):
        say(f"{path}: damaged; scored again")
        return False


class Stopwatch:
    """Adds wall seconds to a folder's scoring_seconds, now and then, so that a kill loses at most the last one."""

    def __init__(self, folder: Path, task: str) -> None:
        self._folder, self._task = folder, task
        self._since = time.perf_counter()

    def lap(self, last: bool = False) -> None:
        """Records the seconds since the lap before, if they are enough or the last ones."""
        seconds = time.perf_counter() - self._since
        if last or seconds >= STATE_INTERVAL_S:
            state = read_state(self._folder)
            scoring = state["scoring_seconds"]
            scoring[self._task] = scoring.get(self._task, 0.0) + seconds
            write_state(self._folder, state)
            self._since += seconds


def crystals_of(filtered: FilteredCrystals, rows: IntArray) -> Crystals:
    """The crystals at these places, which must have one."""
    return filtered.crystals[np.searchsorted(filtered.indices, rows)]


def stored_crystals(folder: SampleFolder, rows: IntArray) -> Crystals:
    """The crystals of these rows of a folder, which must have one. One shard is in memory at a time."""
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    parts = []
    for shard in folder.shards():
        start, stop = np.searchsorted(ascending, [shard.first_row, shard.first_row + shard.num_rows])
        if start < stop:
            parts.append(crystals_of(shard.read(), ascending[start:stop] - shard.first_row))
    return Crystals.concatenate(parts)[np.argsort(order)]


def merge(task: Task, parts: Sequence[Path], table: Path, crystals: Callable[[IntArray], Crystals]) -> None:
    """One table of the parts in order. A task that needs no row but its own is merged part by part, in bounded memory.

    crystals: gives those of some rows of the whole table.
    """
    import pyarrow as pa

    if hasattr(task, "finish") or hasattr(task, "compare"):
        rows = pa.concat_tables([read_table(part) for part in parts] or [task.schema.empty_table()])
        write_table(table, finished(task, rows, crystals))
        return
    with replacement(table) as temporary, table_writer(temporary, task.schema) as writer:
        for part in parts:
            writer.write_table(read_table(part))


def finished(task: Task, rows: pa.Table, crystals: Callable[[IntArray], Crystals]) -> pa.Table:
    """All rows after the task's `compare` or `finish`, if it has one. ValueError where that lost rows or columns."""
    if hasattr(task, "compare"):
        table = task.compare(rows, crystals)
    elif hasattr(task, "finish"):
        table = task.finish(rows)
    else:
        return rows
    if table.num_rows != rows.num_rows or table.schema.names != rows.schema.names:
        raise ValueError(f"task {task.name}: finishing its table changed the rows or columns")
    return table.cast(rows.schema)
