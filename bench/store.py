"""The run folder: where everything of a run lies, and how reports read it.

DIR/manifest.json                    what ran (`bench.run_folder.manifest`)
DIR/<model>/batches.jsonl, samples/, batches.parquet    `bench.run_folder.shards`
DIR/<model>/state.json               load_seconds, warmup_seconds, compile_seconds, sampled, scoring_seconds by task
DIR/<model>/parts/<task>/            rows scored so far; gone when <task>.parquet is there
DIR/<model>/<task>.parquet           one row per requested crystal
DIR/<model>/relaxed/<task>.<row>.parquet    crystals as the task relaxed them; runs of earlier versions have none
DIR/<model>/repeat-1/ ...            the same of each further repeat
DIR/summary.json, DIR/report/

A finished run may also be one file, RUN.zip with these files inside, which is only read (`bench.run_folder.archive`).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.atomic import LOCK_NAME, read_json, write_json
from bench.budget import Budget
from bench.crystal_io.streams import printable
from bench.errors import one_line
from bench.parquet import open_table, read_table
from bench.run_folder.archive import open_archive
from bench.run_folder.relaxed import kept_relaxed
from bench.run_folder.shards import SampleFolder

if TYPE_CHECKING:
    import pyarrow as pa

    from bench.statistics import Metric

FORMAT = 1
MANIFEST = "manifest.json"
SUMMARY = "summary.json"
STATE = "state.json"
LONGEST = 500  # letters of a text of a card
CARD = "card.json"  # of a row: what the author of a published model says (`bench.rows`)


@dataclass(frozen=True)
class Run:
    """A run folder that has a manifest. Reading needs no lock: every file is there whole or not at all.

    archive: its files, where `root` is not a folder but an archive of one.
    """

    root: Path
    manifest: dict[str, Any]
    archive: Traversable | None = None

    @classmethod
    def open(cls, root: Path) -> Run:
        """The run in a folder or an archive.

        ValueError where there is none, another version of this package wrote it, or the archive is refused.
        """
        archive = open_archive(root) if root.is_file() else None
        files = archive or root
        if not (files / MANIFEST).is_file():
            raise ValueError(f"{root}: no run there (no {MANIFEST})")
        manifest = read_json(files / MANIFEST)
        if manifest.get("format") != FORMAT:
            raise ValueError(f"{root}: its format is {manifest.get('format')!r}, this version reads {FORMAT}")
        missing = [key for key in ("dataset", "protocol", "models") if key not in manifest]
        if missing:
            raise ValueError(f"{root / MANIFEST}: damaged, it has no {', '.join(missing)}")
        return cls(root, manifest, archive)

    @classmethod
    def open_to_write(cls, root: Path) -> Run:
        """The run in a folder. ValueError where it is in an archive or a row's folder, which are only read."""
        run = cls.open(root)
        if run.card is not None:
            raise ValueError(f"{root}: the folder of a row is only read; `bench rows score {root}` scores it anew")
        if run.is_archive:
            raise ValueError(f"{root}: an archive is only read; `bench rescore {root} --out FOLDER` works on a copy")
        return run

    @property
    def files(self) -> Traversable:
        """Where its files are read: in the folder or in the archive."""
        return self.archive or self.root

    @property
    def is_archive(self) -> bool:
        """Whether it is one file, which is only read."""
        return self.archive is not None

    @property
    def name(self) -> str:
        """The name of its folder; of an archive without the ending."""
        name = self.root.resolve().name
        return name.removesuffix(".zip") if self.is_archive else name

    @property
    def card(self) -> dict[str, Any] | None:
        """What the author of a published model says of it, where this is the folder of a row; None for a run.

        Its texts are made printable and cut: `bench.rows.card` checks the rest.
        """
        if not (self.files / CARD).is_file():
            return None
        said = read_json(self.files / CARD).items()
        return {key: printable(value, LONGEST) if isinstance(value, str) else value for key, value in said}

    @property
    def models(self) -> list[str]:
        """Names of the models in the order in which they were asked for."""
        return list(self.manifest["models"])

    @property
    def skipped(self) -> list[str]:
        """Those of the models that could not run here; the manifest and the summary say why."""
        return [name for name, entry in self.manifest["models"].items() if "skipped" in entry]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, without cost."""
        return list(self.manifest["protocol"]["tasks"])

    @property
    def budget(self) -> Budget:
        """What each model may spend."""
        return Budget(**self.manifest["budget"])

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return str(self.manifest["dataset"])

    def folders(self, model: str) -> list[SampleFolder]:
        """The sample folder of each repeat of a model. ValueError lists the run's models where it is none of them."""
        if model not in self.manifest["models"]:
            raise ValueError(f"{self.root}: no model {model!r} in it; it has {', '.join(self.models)}")
        entry = self.manifest["models"][model]
        places = [f"{model}/repeat-{repeat}" if repeat else model for repeat in range(entry["repeats"])]
        return [SampleFolder(self.root / place, entry["batch_size"], self.files / place) for place in places]

    def summary(self) -> dict[str, Any]:
        """summary.json. ValueError where the run has not come to its end."""
        if not (self.files / SUMMARY).is_file():
            if self.is_archive:
                raise ValueError(f"{self.root}: damaged, it has no {SUMMARY}; pack the run anew")
            raise ValueError(
                f"{self.root}: the run is not finished; go on with `python -m bench run --resume {self.root}`"
            )
        return read_json(self.files / SUMMARY)

    def results(self) -> dict[str, dict[str, Any]]:
        """The models' entries of `summary`, with intervals of their times by today's method.

        Runs that an earlier version stored have intervals that are too narrow where batches are few.
        """
        entries: dict[str, dict[str, Any]] = self.summary()["models"]
        for model, entry in entries.items():
            stored = entry.get("metrics", {}).get("seconds_per_crystal")
            if stored and stored.get("value") and self.manifest["models"].get(model, {}).get("kind") == "generator":
                own = self._seconds_per_crystal(model)
                if own.value is not None and math.isclose(own.value, stored["value"], rel_tol=1e-9):
                    entry["metrics"] = {**entry["metrics"], "seconds_per_crystal": own.to_json()}
        return entries

    def _seconds_per_crystal(self, model: str) -> Metric:
        """From the batches that count. Undefined where one of them has no time."""
        from bench.statistics import Metric, seconds_per_crystal

        counted = [(r, b) for r, folder in enumerate(self.folders(model)) for b in folder.batches if b.counted]
        if any(batch.start_s is None or batch.end_s is None for _, batch in counted):
            return Metric(None)
        seconds = [(batch.end_s or 0.0) - (batch.start_s or 0.0) for _, batch in counted]
        crystals, repeats = [batch.num_crystals for _, batch in counted], [repeat for repeat, _ in counted]
        return seconds_per_crystal(seconds, crystals, int(self.manifest["seed"]), repeats)

    def batches(self, model: str) -> pa.Table:
        """Batches of all repeats (`SampleFolder.batch_table`) with a column `repeat`."""
        import pyarrow as pa

        parts = []
        for repeat, folder in enumerate(self.folders(model)):
            table = folder.batch_table()
            parts.append(table.append_column("repeat", pa.array([repeat] * table.num_rows, pa.int64())))
        return pa.concat_tables(parts)

    def scan(self, model: str, task: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a task over all repeats, piece by piece, so that a run of any size can be read."""
        for folder in self.folders(model):
            with self._readable(folder, task) as path, open_table(path) as file:
                yield from file.iter_batches(columns=None if columns is None else list(columns))

    def task_table(self, model: str, task: str, repeat: int = 0, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a task of one repeat. ValueError where the task was not scored."""
        with self._readable(self.folders(model)[repeat], task) as path:
            return read_table(path, columns)

    def relaxed(self, model: str, task: str, repeat: int = 0) -> pa.Table | None:
        """The relaxed crystals of one repeat (`kept_relaxed`), None where none were kept."""
        return kept_relaxed(self.folders(model)[repeat], task)

    def task_columns(self, model: str, task: str) -> list[str]:
        """Names of the columns of a task."""
        with self._readable(self.folders(model)[0], task) as path, open_table(path) as file:
            return list(file.schema_arrow.names)

    def has_table(self, model: str, task: str) -> bool:
        """Whether a task was scored for every repeat of a model."""
        return all((folder.files / f"{task}.parquet").is_file() for folder in self.folders(model))

    @contextmanager
    def _readable(self, folder: SampleFolder, task: str) -> Iterator[Traversable]:
        """The file of a task's table; one that is not there or turns out to be damaged is a ValueError."""
        import pyarrow as pa

        path = folder.files / f"{task}.parquet"
        remedy = f"`bench rescore {self.root} --tasks {task}{' --out FOLDER' * self.is_archive}` writes it"
        if self.card is not None:
            raise ValueError(f"{self.root}: the folder of a row, which holds scores and no table of {task}")
        if not path.is_file():
            raise ValueError(f"{path}: not scored; {remedy}")
        try:
            yield path
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: damaged ({one_line(error)}); {remedy} anew") from error


def report_folder(root: Path) -> Path:
    """Where tables and figures of a run go, made where it is not there: report/ in it, RUN-report beside RUN.zip."""
    folder = root.with_name(f"{root.stem}-report") if root.is_file() else root / "report"
    folder.mkdir(exist_ok=True)
    return folder


def newest_run(folder: Path) -> Path:
    """The run below a folder whose manifest was written last. ValueError where there is none."""
    manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise ValueError(f"no run below {folder}/; name a run folder, or make one with `bench run`")
    return manifests[-1].parent


def default_folder(names: Sequence[str]) -> Path:
    """runs/<time>-<models>, with a number where that exists."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{re.sub(r'[^A-Za-z0-9.@+-]+', '-', '-'.join(names))[:80]}"
    path, number = Path("runs") / stem, 2
    while path.exists():
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


def create_folder(root: Path) -> None:
    """Makes a new run folder. ValueError where it holds a run already, or other files."""
    if (root / MANIFEST).exists():
        raise ValueError(
            f"{root} holds a run already; go on with `python -m bench run --resume {root}` or choose another --out"
        )
    if root.is_dir() and any(path.name != LOCK_NAME for path in root.iterdir()):
        raise ValueError(f"{root} is not empty and holds no run; choose another --out")
    root.mkdir(parents=True, exist_ok=True)


def read_state(folder: Traversable) -> dict[str, Any]:
    """state.json of a model's folder; what a model starts with where there is none. ValueError where it is damaged."""
    if not (folder / STATE).is_file():
        return {"load_seconds": 0.0, "warmup_seconds": 0.0, "sampled": False, "scoring_seconds": {}}
    try:
        return read_json(folder / STATE)
    except ValueError as error:
        raise ValueError(f"{error}; without it, the times of loading and scoring so far are lost, no more") from error


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes state.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STATE, state)
