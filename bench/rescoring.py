"""Tasks computed anew on the stored crystals of a run, by today's protocol."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.atomic import folder_lock
from bench.datasets import reference_card
from bench.executor import Executor, LocalExecutor
from bench.interfaces import Task, task_kind
from bench.parquet import read_table, write_table
from bench.prediction.tasks import stored_targets
from bench.run_folder import manifest as manifests
from bench.run_folder.shards import SampleFolder
from bench.runner import Outcome, finish, stored_tasks
from bench.sampling.sessions import record, suggest_resume
from bench.store import SUMMARY, Run, read_state, write_state

if TYPE_CHECKING:
    import pyarrow as pa

Tables = Mapping[tuple[Path, str], "pa.Table"]  # (folder, task) -> its table


@dataclass(frozen=True)
class Rescoring:
    """What `bench rescore` is asked for. None: as the run has it.

    tasks: to be computed anew, all of the run's for None. keep_energies: tasks that can keep the costly figures of
    their stored tables (`Task.renewed`) do.
    """

    tasks: Sequence[str] | None = None
    potentials: Sequence[str] | None = None
    hull: Path | None = None
    hull_run_types: Sequence[str] | None = None
    rules: str | None = None
    keep_energies: bool = False


def rescore(root: Path, asked: Rescoring | None = None, workers: int = 2, executor: Executor | None = None) -> Outcome:
    """Computes tasks anew, and writes summary and reports.

    ValueError where the run is not sampled to its end, where a task that was not named changed as well, or where
    figures that are to be kept are not today's.
    """
    asked = asked or Rescoring()
    with folder_lock(Run.open_to_write(root).root):
        stored = Run.open(root)
        before, targets = stored.manifest, stored_targets(stored.manifest)
        chosen = list(before["tasks"] if asked.tasks is None else asked.tasks)
        settings = _settings(root, before, asked, chosen)
        tasks = stored_tasks(Run(root, {**before, **settings}), targets)
        wanted = registry.task_names(chosen) if targets is None else chosen
        anew = {task.name for task in tasks if task_kind(task) in wanted}
        anew -= {*before["tasks"]} - {*chosen}  # what one of these only needs
        protocol = manifests.protocol(stored.dataset, reference_card(stored.dataset).sha256, tasks)
        _require_others_unchanged(root, before["protocol"]["tasks"], protocol["tasks"], anew)
        folders = [folder for model in stored.models if model not in stored.skipped for folder in stored.folders(model)]
        _require_sampled(root, folders)
        kept = _renewed_tables(tasks, folders, before["protocol"]["tasks"], anew) if asked.keep_energies else {}
        # Tables go before the manifest changes: a kill in between leaves tasks to score, never old rows as new ones.
        (root / SUMMARY).unlink(missing_ok=True)
        for folder in folders:
            _forget_scores(folder, anew, kept)
        manifest = {
            **before,
            **settings,
            "data": before.get("data", {}) | manifests.data_at_hand(stored.dataset),
            "protocol": protocol,
            "protocol_hash": manifests.protocol_hash(protocol),
            "known_tasks": list(registry.known("task")),
        }
        with suggest_resume(Run(root, manifest)) as changed:
            executor = executor or LocalExecutor(workers)
            record(changed, executor)
            with executor.scoring(tasks, stored.dataset) as pool:
                return finish(changed, tasks, pool)


def _settings(root: Path, before: Mapping[str, Any], asked: Rescoring, chosen: Sequence[str]) -> dict[str, Any]:
    """What the manifest is to say of the tasks: as asked for, else as it was. ValueError for a run of `bench csp`."""
    tasks = list(chosen)
    if "prediction" not in before:
        tasks = registry.task_names([*before["tasks"], *chosen])
    elif (asked.tasks, asked.potentials, asked.hull, asked.hull_run_types, asked.rules) != (None,) * 5:
        raise ValueError(f"{root}: a run of `bench csp` has one task; name no task, potential, hull or rules")
    run_types = before.get("hull_run_types", ()) if asked.hull_run_types is None else asked.hull_run_types
    return {
        "tasks": tasks,
        "potentials": before["potentials"] if asked.potentials is None else list(asked.potentials),
        "hull": before.get("hull") if asked.hull is None else str(asked.hull.resolve()),
        "hull_run_types": list(run_types),
        "rules": before.get("rules") if asked.rules is None else asked.rules,
    }


def _require_others_unchanged(
    root: Path, then: Mapping[str, Any], now: Mapping[str, Any], anew: Collection[str]
) -> None:
    """ValueError where a task that is not scored anew has another protocol than its rows."""
    for name in then:
        if name in now and name not in anew:
            manifests.require_same(then[name], now[name], f"{root}: the protocol of {name}", f"add {name} to --tasks")


def _require_sampled(root: Path, folders: Sequence[SampleFolder]) -> None:
    for folder in folders:
        if not read_state(folder.path)["sampled"]:
            raise ValueError(
                f"{folder.path} is not sampled to its end; go on with `python -m bench run --resume {root}` first"
            )


def _renewed_tables(
    tasks: Sequence[Task], folders: Sequence[SampleFolder], protocols: Mapping[str, Any], names: Collection[str]
) -> Tables:
    """The stored tables as of today, of the tasks among `names` that can keep theirs. ValueError as of them."""
    able = [task for task in tasks if task.name in names and task.name in protocols and hasattr(task, "renewed")]
    if not able:
        raise ValueError(f"none of {', '.join(sorted(names))} has energies in this run that could be kept")
    found = {}
    for folder in folders:
        for task in able:
            table = read_table(folder.path / f"{task.name}.parquet")
            try:
                found[folder.path, task.name] = task.renewed(table, protocols[task.name])
            except ValueError as error:
                raise ValueError(f"{folder.path}: {task.name}: {error}; rescore without --keep-energies") from None
    return found


def _forget_scores(folder: SampleFolder, names: Collection[str], kept: Tables) -> None:
    """Removes a folder's tables of these tasks, parts of them and their seconds; those that are kept take the place."""
    removed = set()
    for name in names:
        if (folder.path, name) in kept:
            write_table(folder.path / f"{name}.parquet", kept[folder.path, name])
            continue
        (folder.path / f"{name}.parquet").unlink(missing_ok=True)
        shutil.rmtree(folder.path / "parts" / name, ignore_errors=True)
        removed.add(name)
    state = read_state(folder.path)
    state["scoring_seconds"] = {k: s for k, s in state["scoring_seconds"].items() if k not in removed}
    write_state(folder.path, state)
