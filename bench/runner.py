"""A run from plan to report: plan -> sample -> score -> store. Each step goes on from what the run folder holds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import model_specs, registry
from bench.atomic import folder_lock, remove_left_over, write_json
from bench.budget import DEFAULT_NUM_SAMPLES, PAPER_NUM_SAMPLES, Budget, DeviceClock
from bench.commands.report import write_reports
from bench.datasets import canonical_name, reference_card
from bench.device import named_threads
from bench.executor import Executor, LocalExecutor
from bench.interfaces import Task
from bench.learning.plan import LearningPlan
from bench.learning.snapshots import ask_batch_sizes, new_entries, stored_snapshots
from bench.learning.trainables import find_trainable
from bench.learning.training import learning_executor, stored_plan, train_missing
from bench.model_specs import ModelSpec
from bench.prediction.compositions import PredictionPlan, Targets
from bench.prediction.tasks import PREDICTION, asked_samples, prediction_task, stored_targets
from bench.progress import say
from bench.run_folder import manifest as manifests
from bench.run_folder.summary import summarise
from bench.sampling.model import Model, build_model, describe_model, stored_model
from bench.sampling.order import RunModel, sample_models
from bench.sampling.sessions import has_crystals, record, suggest_resume
from bench.sampling.thread_choice import Measured, choose_threads
from bench.scoring.between_batches import scoring_between_batches
from bench.scoring.tables import Scorer, score
from bench.store import FORMAT, SUMMARY, Run, create_folder, default_folder


@dataclass(frozen=True)
class Plan:
    """What `bench run` is asked for. None: all tasks that exist, the default of the device or of the machine.

    in_turns: a batch of each model, one after the other and again, so that all meet the same machine.
    prediction: what `bench csp` is asked for besides; its run has a task of its own, and `tasks` are left out.
    learning: what `bench learn` is asked for besides; its models are those that it trains, and `models` are left out.
    """

    models: Sequence[ModelSpec]
    dataset: str
    budget: Budget | None = None
    tasks: Sequence[str] | None = None
    preset: str = "cpu"
    device: str = "auto"
    potentials: Sequence[str] = ()
    hull: Path | None = None
    hull_run_types: Sequence[str] = ()
    rules: str | None = None
    seed: int = 0
    repeats: int = 1
    workers: int = 2
    threads: int | None = None
    in_turns: bool = False
    prediction: PredictionPlan | None = None
    learning: LearningPlan | None = None

    def __post_init__(self) -> None:
        for name in ("repeats", "workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value}: must be at least 1")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: must be 0 or more")


@dataclass(frozen=True)
class Outcome:
    """What a run came to. text: its tables, to be shown."""

    root: Path
    text: str


def run(
    plan: Plan, out: Path | None = None, clock: DeviceClock | None = None, executor: Executor | None = None
) -> Outcome:
    """Samples, scores and reports as planned, in the folder `out` or runs/<time>-<models>.

    executor: where; None is this machine, with the plan's workers and `clock`.

    ValueError and OSError say in one line what was wrong; what is complete by then stays and can be resumed.
    """
    dataset = canonical_name(plan.dataset)
    hull = None if plan.hull is None else str(plan.hull.resolve())
    targets = None if plan.prediction is None else Targets.of(dataset, plan.prediction, plan.seed)
    if targets is None:
        names = registry.task_names(plan.tasks)
        tasks = registry.build_tasks(names, plan.potentials, dataset, hull, plan.hull_run_types, plan.rules)
    else:
        names, tasks = [PREDICTION], [prediction_task(targets)]
    executor = executor or LocalExecutor(plan.workers, clock)
    if plan.budget is not None:
        executor.accept(plan.budget)
    described = executor.device(plan.device)
    device = described["kind"]
    if plan.learning is not None:
        executor = learning_executor(plan.learning, executor, device)
    models: list[Any] = [build_model(spec, dataset, plan.preset, plan.workers, targets) for spec in plan.models]
    trainables = [] if plan.learning is None else [find_trainable(name) for name in plan.learning.models]
    model_specs.require_distinct([model.name for model in models])
    if targets is not None and plan.budget is None:
        targets = targets.with_samples(asked_samples(targets, models))
        budget = Budget(num_samples=len(targets) * (targets.plan.samples or 1))
    else:
        budget = plan.budget or Budget(num_samples=DEFAULT_NUM_SAMPLES[device])
    protocol = manifests.protocol(dataset, reference_card(dataset).sha256, tasks)
    entries = {model.name: describe_model(model, device, plan.repeats, budget) for model in models}
    if plan.learning is not None:
        entries = new_entries(plan.learning, trainables, device)
    manifest = {
        "format": FORMAT,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "dataset": dataset,
        "data": manifests.data_at_hand(dataset),
        "protocol": protocol,
        "protocol_hash": manifests.protocol_hash(protocol),
        "tasks": names,
        "known_tasks": list(registry.known("task")),
        "potentials": list(plan.potentials),
        "hull": hull,
        "hull_run_types": list(plan.hull_run_types),
        "rules": plan.rules,
        "budget": budget.to_json(),
        "default_budget": plan.budget is None and targets is None,
        "preset": plan.preset,
        "device": described,
        "threads": plan.threads or _threads(models, entries, device, budget, executor),
        "seed": plan.seed,
        "repeats": plan.repeats,
        "models": entries,
        "software": manifests.software(),
        "sessions": [],
    }
    if plan.in_turns:
        manifest["in_turns"] = True
    if targets is not None:
        manifest["prediction"] = targets.plan.to_json()
    if plan.learning is not None:
        names_of = dict(zip(plan.learning.models, (trainable.name for trainable in trainables), strict=True))
        manifest["learning"] = {"plan": plan.learning.to_json(), "names": names_of, "trainings": {}}
    root = out or default_folder([model.name for model in [*models, *trainables]])
    create_folder(root)
    with folder_lock(root):
        say(f"run folder: {root}")
        if plan.tasks is not None and set(names) > set(plan.tasks):
            say(f"tasks: {', '.join(names)}, as {', '.join(plan.tasks)} needs the others")
        if targets is not None:
            say(f"structures for {targets}, {budget}")
        elif plan.budget is None and (trainables or not all(model.spec.is_file for model in models)):
            say(f"{budget} of each model, the default on {device}; the paper's is --num-samples {PAPER_NUM_SAMPLES}")
        new = Run(root, manifest)
        if plan.learning is not None:
            models = [*stored_snapshots(new)]
        try:
            return execute(new, models, tasks, executor)
        except (ValueError, OSError):
            if not has_crystals(new):
                shutil.rmtree(root)  # nothing to go on from; the folder was empty or not there before
            raise


def _threads(
    models: Sequence[Model], entries: Mapping[str, Any], device: str, budget: Budget, executor: Executor
) -> int:
    """Threads of a run that names none; 1 where other machines sample, and none of them is asked."""
    if executor.name != "local" or not models:  # no model yet of those that are to be trained
        return named_threads() or 1
    sizes = {
        name: min(entry["batch_size"], budget.num_samples or entry["batch_size"]) for name, entry in entries.items()
    }
    measured = [
        Measured(m.spec, m.dataset, m.preset, sizes[m.name], None if m.predicts is None else m.predicts.compositions)
        for m in models
    ]
    return choose_threads(measured, device)


def resume(
    root: Path,
    workers: int = 2,
    given: Mapping[str, Any] | None = None,
    clock: DeviceClock | None = None,
    executor: Executor | None = None,
) -> Outcome:
    """Goes on with a run where it stands, by whatever executor; a complete one costs its check only.

    given: options that were named beside --resume, None where they were not; they must be the run's own.
    ValueError shows the difference where they are not, and where the data set's card or training split, a task's
    protocol, a model's weights or its file are not those it began with.
    """
    with folder_lock(Run.open_to_write(root).root):
        remove_left_over(root)
        remove_left_over(root / "report")
        stored = Run.open(root)
        manifest = stored.manifest
        asked = {name: value for name, value in (given or {}).items() if value is not None}
        if "tasks" in asked:
            asked["tasks"] = registry.task_names(asked["tasks"])
        own = {**manifest, "device": manifest["device"]["kind"], "out": str(root)}
        own = {"rules": None, "in_turns": False, **own}  # a run of an earlier version has none
        own["compile"] = any(entry["spec"].get("compiled") for entry in manifest["models"].values())
        own["models"] = ",".join(entry["spec"]["text"] for entry in manifest["models"].values())
        manifests.require_same(
            {name: own[name] for name in asked},
            manifests.as_json(asked),
            f"{root}: what is asked for",
            "leave it out, or start a new run",
        )
        executor = executor or LocalExecutor(workers, clock)
        executor.accept(stored.budget)
        if "learning" in manifest:
            executor = learning_executor(stored_plan(stored), executor, manifest["device"]["kind"])
        targets = stored_targets(manifest)
        tasks = stored_tasks(stored, targets)
        manifests.require_same(
            manifest["protocol"],
            manifests.protocol(stored.dataset, reference_card(stored.dataset).sha256, tasks),
            f"{root}: the protocol",
            "score its crystals anew with `bench rescore`, or start a new run",
        )
        data, data_now = manifest.get("data", {}), manifests.data_at_hand(stored.dataset)
        if data and data_now:  # a file that came or went since makes no other crystals
            manifests.require_same(data, data_now, f"{root}: the data at hand", manifests.START_ANEW)
        then = {"software": manifest["software"], "device": manifest["device"]}
        now = {"software": manifests.software(), "device": executor.device(manifest["device"]["kind"])}
        for difference in manifests.differences(then, now):
            say(f"{root}: not as when the run began: {difference}")
        models: list[Any] = [*stored_snapshots(stored)] if "learning" in manifest else []
        models = models or [stored_model(name, stored, executor.workers, targets) for name in stored.models]
        return execute(stored, models, tasks, executor)


def stored_tasks(run: Run, targets: Targets | None) -> list[Task]:
    """The tasks of a stored run as they are today. targets: the compositions of a run of `bench csp`."""
    if targets is not None:
        return [prediction_task(targets)]
    manifest = run.manifest
    run_types = manifest.get("hull_run_types", ())
    how = (manifest["potentials"], run.dataset, manifest.get("hull"), run_types, manifest.get("rules"))
    return registry.build_tasks(manifest["tasks"], *how)


def execute(run: Run, models: list[RunModel], tasks: Sequence[Task], executor: Executor) -> Outcome:
    """Samples every model, one after the other or in turns, then scores and reports. The lock must be held.

    Of a run of `bench learn`, trains first what is not trained yet.
    """
    manifest = run.manifest
    with suggest_resume(run), ExitStack() as stack:
        record(run, executor)
        if "learning" in manifest:
            train_missing(run, executor)
            ask_batch_sizes(run)
        pool = stack.enter_context(executor.scoring(tasks, run.dataset)) if run.budget.covers_scoring else None
        score_one = None if pool is None else scoring_between_batches(tasks, pool, manifest["threads"])
        sample_models(run, models, executor, score_one)
        if len(run.skipped) == len(run.models):
            raise ValueError(f"no model could run; {manifest['models'][run.skipped[0]]['skipped']}")
        return finish(run, tasks, pool or stack.enter_context(executor.scoring(tasks, run.dataset)))


def finish(run: Run, tasks: Sequence[Task], pool: Scorer) -> Outcome:
    """Scores what is not scored yet and writes summary and reports."""
    for model in run.models:
        if model not in run.skipped:
            for folder in run.folders(model):
                score(tasks, model, folder, pool)
    write_json(run.root / SUMMARY, summarise(run, tasks, reference_card(run.dataset)))
    return Outcome(run.root, "\n\n".join(write_reports([run.root]).values()))
