"""The crystals of one model in a run folder: batches as they come, shards of many batches, and their journal.

FOLDER/batches.jsonl     one line per batch, written before its crystals: what it cost, SHA-256 of its shard
FOLDER/samples/000000.parquet ...   named after the first batch in it; each batch is a file of its own until
                         `batches_per_shard` consecutive ones are complete, which then become one file
FOLDER/batches.parquet   the journal as a table

A batch is complete when its line and its shard exist. A kill between the two loses the crystals of that batch, but not
what it cost: it is sampled again with the same seed and size, and its line stays.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arrays import BoolArray, IntArray
from bench.atomic import append_line, mend_lines, read_lines, remove_left_over, write_bytes
from bench.crystal_io.table import parquet_bytes, table_to_filtered
from bench.crystals import Crystals, FilteredCrystals
from bench.errors import one_line
from bench.parquet import open_table, read_table, write_table

if TYPE_CHECKING:
    import pyarrow as pa

JOURNAL = "batches.jsonl"
JOURNAL_TABLE = "batches.parquet"
RELAXED = "relaxed"
USED = ("cpu_s", "waited_share", "others_share", "steal_share", "load_average", "gpu_others_share", "energy_j")
PEAKS = ("peak_memory_bytes", "peak_device_memory_bytes")
SHARD_CRYSTALS = 2000  # a million crystals are 500 files, and merging a shard holds a few MB


@dataclass(frozen=True)
class Batch:
    """One line of the journal.

    start_s, end_s: on the device clock, None where crystals came from a file. num_crystals: asked for.
    handed_over: what the generator gave, crystals or reasons; the others are missing without one.
    network_evaluations: of all crystals together, None where unknown. counted: ended within the budget.
    wall_s: wall-clock seconds with recording, since the batch before. sha256: of the batch's own shard.
    scoring_s: wall-clock seconds of scoring it, where the budget covers that; None until then.
    The others, what was used of the machine meanwhile: see `bench.sampling.usage.Usage`; None where that is not known.
    """

    batch: int
    start_s: float | None
    end_s: float | None
    num_crystals: int
    handed_over: int
    network_evaluations: float | None
    steps: int | None
    counted: bool
    wall_s: float
    sha256: str
    scoring_s: float | None = None
    cpu_s: float | None = None
    waited_share: float | None = None
    others_share: float | None = None
    steal_share: float | None = None
    load_average: float | None = None
    gpu_others_share: float | None = None
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    energy_j: float | None = None
    disturbed: bool | None = None


@dataclass(frozen=True)
class Shard:
    """One file of crystals. first_row: place of its first crystal among all; num_rows: crystals asked for in it."""

    path: Traversable
    first_batch: int
    num_batches: int
    first_row: int
    num_rows: int

    def read(self) -> FilteredCrystals:
        """Its crystals. ValueError names the file where it is damaged."""
        return read_shard(self.path)


def read_shard(path: Traversable) -> FilteredCrystals:
    """The crystals of a shard file. ValueError names the file where it is damaged."""
    import pyarrow as pa

    try:
        return table_to_filtered(read_table(path))
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ValueError(f"{path}: damaged ({one_line(error)}); `bench run --resume` repairs it") from error


class SampleFolder:
    """Writes and reads the crystals of one model. Only the holder of the run's lock may write.

    files: where it is read from, if that is not the folder `path` but a place in an archive.
    """

    def __init__(self, path: Path, batch_size: int, files: Traversable | None = None) -> None:
        self.path = path
        self.files = files or path
        self.samples = path / "samples"
        self.batches_per_shard = max(1, SHARD_CRYSTALS // batch_size)
        self.was_cut = False  # whether `recover` found that the journal had lost its last line

    @cached_property
    def _journal(self) -> tuple[list[Batch], dict[int, str]]:
        """The batches, and SHA-256 of merged shards by their first batch; the last line about a thing holds."""
        batches: dict[int, Batch] = {}
        merged: dict[int, str] = {}
        for line in read_lines(self.files / JOURNAL):
            if "merged" in line:
                merged[line["merged"]] = line["sha256"]
            else:
                batches[line["batch"]] = Batch(**line)
        if sorted(batches) != list(range(len(batches))):
            raise ValueError(
                f"{self.path / JOURNAL}: batches are missing in it; the file was changed by something else"
            )
        return [batches[number] for number in range(len(batches))], merged

    @cached_property
    def first_rows(self) -> list[int]:
        """Place of each batch's first crystal, and of the first one still to come."""
        return [0, *itertools.accumulate(batch.num_crystals for batch in self.batches)]

    @property
    def batches(self) -> list[Batch]:
        """What was sampled so far, in order. Not to be changed."""
        return self._journal[0]

    @property
    def counted(self) -> int:
        """Crystals asked for in the batches that count; their places come first."""
        return sum(batch.num_crystals for batch in self.batches if batch.counted)

    @property
    def spent_s(self) -> float:
        """Seconds of all batches: on the device clock and, where the budget covers it, of scoring."""
        end_s = (self.batches[-1].end_s or 0.0) if self.batches else 0.0
        return end_s + sum(batch.scoring_s or 0.0 for batch in self.batches)

    def recover(self) -> list[int]:
        """Puts the folder in order after a kill and gives the batches whose crystals are missing or damaged.

        Left-over temporary files go; every shard is held against its SHA-256, damaged ones are deleted, and so is the
        shard of a last line that is torn. ValueError where more lines are lost, which no kill does.
        """
        self.samples.mkdir(parents=True, exist_ok=True)
        remove_left_over(self.path)
        remove_left_over(self.samples)
        mend_lines(self.path / JOURNAL)
        for cached in ("_journal", "first_rows"):
            self.__dict__.pop(cached, None)
        batches, merged = self._journal
        known = {self._file(number) for number in range(len(batches))}
        strays = sorted(set(self.samples.glob("*.parquet")) - known)
        if len(strays) > 1:
            raise ValueError(
                f"{self.path / JOURNAL}: ends after {len(batches)} batches, but {strays[0].name} and {len(strays) - 1} "
                "more are there; something else cut it: put it back, or start a new run"
            )
        self.was_cut = bool(strays)
        for stray in strays:
            stray.unlink()
        missing: list[int] = []
        for start in range(0, len(batches), self.batches_per_shard):
            group = self._group(start)
            digests = {number: self._digest(number) for number in group}
            if digests[group[0]] is not None and digests[group[0]] == merged.get(group[0]):
                self._delete(group[1:])
                continue
            damaged = [number for number in group if digests[number] != batches[number].sha256]
            self._delete(damaged)
            missing += damaged
            if not damaged:
                self._merge(group)
        return missing

    def append(self, filtered: FilteredCrystals, **cost: Any) -> Batch:
        """Records the next batch: its line first, then its crystals. cost: the other fields of `Batch`."""
        number = len(self.batches)
        content = parquet_bytes(filtered, self.first_rows[number])
        batch = Batch(batch=number, num_crystals=filtered.requested, sha256=hashlib.sha256(content).hexdigest(), **cost)
        append_line(self.path / JOURNAL, asdict(batch))
        self.batches.append(batch)
        self.first_rows.append(self.first_rows[number] + batch.num_crystals)
        write_bytes(self._file(number), content)
        self._merge_complete(number)
        return batch

    def settle(self, number: int, scoring_s: float, counted: bool) -> None:
        """Records what scoring a batch took, and whether it still counts."""
        self.batches[number] = replace(self.batches[number], scoring_s=scoring_s, counted=counted)
        append_line(self.path / JOURNAL, asdict(self.batches[number]))

    def restore(self, number: int, filtered: FilteredCrystals) -> bool:
        """Writes the crystals of a batch that `recover` found missing. False where they are not the ones it had."""
        old = self.batches[number]
        if filtered.requested != old.num_crystals:
            raise ValueError(f"batch {number} had {old.num_crystals} crystals, not {filtered.requested}")
        content = parquet_bytes(filtered, self.first_rows[number])
        digest = hashlib.sha256(content).hexdigest()
        if digest != old.sha256:
            self.batches[number] = replace(old, sha256=digest)
            append_line(self.path / JOURNAL, asdict(self.batches[number]))
        write_bytes(self._file(number), content)
        self._merge_complete(number)
        return digest == old.sha256

    def shards(self) -> Iterator[Shard]:
        """The files in order, told by their footers and the journal; those that a merged one replaced are left out.

        ValueError names the first file that is missing or damaged.
        """
        import pyarrow as pa

        batches, number, row = self.batches, 0, 0
        while number < len(batches):
            path = self.files / "samples" / _file_name(number)
            try:
                with open_table(path) as file:
                    rows = file.metadata.num_rows
            except (pa.ArrowException, OSError) as error:
                remedy = "`bench run --resume` repairs it" if self.files == self.path else "pack the run anew"
                raise ValueError(f"{path}: missing or damaged; {remedy}") from error
            first, held = number, 0
            while number < len(batches) and held < rows:
                held += batches[number].num_crystals
                number += 1
            if held != rows or first == number:
                raise ValueError(f"{path}: holds {rows} crystals, which is no whole number of batches; sample anew")
            yield Shard(path, first, number - first, row, rows)
            row += rows

    def existing(self, wanted: BoolArray) -> Iterator[tuple[IntArray, Crystals]]:
        """Shard by shard, the rows that are wanted and have a crystal, and their crystals.

        wanted: (n,) of the first n rows; the others are not.
        """
        for shard in self.shards():
            if shard.first_row >= len(wanted):
                return
            found = shard.read()
            rows = found.indices + shard.first_row
            chosen = rows < len(wanted)
            chosen[chosen] = wanted[rows[chosen]]
            yield rows[chosen], found.crystals[chosen]

    def batch_table(self) -> pa.Table:
        """The journal as a table: the fields of `Batch` but sha256."""
        import pyarrow as pa

        types = {
            "batch": pa.int64(),
            "start_s": pa.float64(),
            "end_s": pa.float64(),
            "num_crystals": pa.int64(),
            "network_evaluations": pa.float64(),
            "steps": pa.int64(),
            "counted": pa.bool_(),
            "handed_over": pa.int64(),
            "wall_s": pa.float64(),
            "scoring_s": pa.float64(),
            **dict.fromkeys(USED, pa.float64()),
            **dict.fromkeys(PEAKS, pa.int64()),
            "disturbed": pa.bool_(),
        }
        rows = [asdict(batch) for batch in self.batches]
        return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})

    def write_batch_table(self) -> None:
        """Writes batches.parquet."""
        write_table(self.path / JOURNAL_TABLE, self.batch_table())

    def _file(self, number: int) -> Path:
        return self.samples / _file_name(number)

    def _digest(self, number: int) -> str | None:
        try:
            return hashlib.sha256(self._file(number).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None

    def _delete(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._file(number).unlink(missing_ok=True)

    def _group(self, number: int) -> list[int]:
        """The batches so far that end up in one file with this one."""
        start = number - number % self.batches_per_shard
        return list(range(start, min(start + self.batches_per_shard, len(self.batches))))

    def _merge_complete(self, number: int) -> None:
        """Merges the shard that a batch belongs to, once all its batches have files."""
        group = self._group(number)
        if all(self._file(member).exists() for member in group):
            self._merge(group)

    def _merge(self, group: Sequence[int]) -> None:
        """One file of a full group's batches. A smaller group stays as it is: it may still grow."""
        if len(group) < self.batches_per_shard or len(group) == 1:
            return
        parts = [read_shard(self._file(number)) for number in group]
        content = parquet_bytes(FilteredCrystals.concatenate(parts), self.first_rows[group[0]])
        digest = hashlib.sha256(content).hexdigest()
        append_line(self.path / JOURNAL, {"merged": group[0], "sha256": digest})
        self._journal[1][group[0]] = digest
        write_bytes(self._file(group[0]), content)
        self._delete(group[1:])


def _file_name(number: int) -> str:
    return f"{number:06d}.parquet"
