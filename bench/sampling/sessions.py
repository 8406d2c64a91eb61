"""Sessions of a process on a run: noted in its manifest, and how to go on after one that was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.atomic import write_json
from bench.errors import Interrupted, one_line
from bench.executor import Executor
from bench.learning.snapshots import TRAINING
from bench.run_folder import manifest as manifests
from bench.store import MANIFEST, Run


def record(run: Run, executor: Executor) -> None:
    """Writes the manifest with one session more."""
    run.manifest["sessions"].append(manifests.session(executor.workers, executor.name))
    write_json(run.root / MANIFEST, run.manifest)


@contextmanager
def suggest_resume(run: Run) -> Iterator[Run]:
    """Adds to what stops a run how to go on with it."""
    remedy = f"go on with `python -m bench run --resume {run.root}`"
    try:
        yield run
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {remedy}") from None
    except (ValueError, OSError) as error:
        if has_crystals(run) and not str(error).endswith(manifests.START_ANEW):
            raise ValueError(f"{one_line(error, limit=None)}; what is complete is kept: {remedy}") from error
        raise


def has_crystals(run: Run) -> bool:
    """Whether a batch of any model was recorded, or a training has left a file."""
    return any(path.is_file() for path in (run.root / TRAINING).rglob("*")) or any(
        folder.batches for model in run.models for folder in run.folders(model)
    )
