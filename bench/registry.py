"""Plug-ins by name: the one table that says which generator, task, cost function, report and trainer lies where.

`bench` imports nothing of `models`, `tasks` and `reports`; it loads what the strings here name when it is asked for.
Generators of other packages join by entry point, by module:Class or as a file of crystals; tasks by entry point.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import bench
from bench.interfaces import Task, task_kind, task_name

Kind = Literal[
    "generator",
    "task",
    "prediction",
    "cost",
    "report",
    "prediction_report",
    "table",
    "page",
    "trainer",
    "trainable",
    "learning_report",
    "hull",
    "weights",
    "examination",
    "reference",
    "relaxed",
]

PLUGINS: Mapping[Kind, Mapping[str, str]] = MappingProxyType(
    {
        "generator": {
            "crysldm": "models.crysldm.generator:crysldm",
            "crysldm-as-written": "models.crysldm.generator:crysldm_as_written",
            "crysldm-fast": "models.crysldm.generator:crysldm_fast",
            "crysldm-guided": "models.crysldm.generator:crysldm_guided",
            "crysldm-autoguided": "models.crysldm.generator:crysldm_autoguided",
            "crysldm-posterior": "models.crysldm.generator:crysldm_posterior",
            "crysldm-posterior-fast": "models.crysldm.generator:crysldm_posterior_fast",
            "crysldm-posterior-guided": "models.crysldm.generator:crysldm_posterior_guided",
            "crysldm-posterior-autoguided": "models.crysldm.generator:crysldm_posterior_autoguided",
            "diffcsp": "models.baselines.diffcsp.generator:diffcsp",
            "diffcsp-fast": "models.baselines.diffcsp.generator:diffcsp_fast",
            "diffcsp-guided": "models.baselines.diffcsp.generator:diffcsp_guided",
            "diffcsp-autoguided": "models.baselines.diffcsp.generator:diffcsp_autoguided",
            "diffcsp-posterior": "models.baselines.diffcsp.generator:diffcsp_posterior",
            "diffcsp-posterior-fast": "models.baselines.diffcsp.generator:diffcsp_posterior_fast",
            "diffcsp-posterior-guided": "models.baselines.diffcsp.generator:diffcsp_posterior_guided",
            "diffcsp-posterior-autoguided": "models.baselines.diffcsp.generator:diffcsp_posterior_autoguided",
            "diffcsp-csp": "models.baselines.diffcsp.generator:diffcsp_csp",
            "diffcsp-csp-fast": "models.baselines.diffcsp.generator:diffcsp_csp_fast",
            "diffcsp-csp-template": "models.baselines.diffcsp.generator:diffcsp_csp_template",
            "diffcsp-csp-draft": "models.crystal_draft.generator:diffcsp_csp_draft",
            "composition-first": "models.composition_first.generator:composition_first",
            "composition-first-fast": "models.composition_first.generator:composition_first_fast",
            "composition-first-neutral": "models.composition_first.generator:composition_first_neutral",
            "composition-first-template": "models.composition_first.generator:composition_first_template",
            "cdvae": "models.baselines.cdvae.generator:cdvae",
            "train-copy": "models.baselines.controls:TrainCopy",
            "independent-elements": "models.baselines.controls:IndependentElements",
            "shuffled-sites": "models.baselines.controls:ShuffledSites",
            "ion-exchange": "models.baselines.controls:IonExchange",
            "random-structure": "models.baselines.structure_controls:RandomStructure",
            "nearest-template": "models.baselines.structure_controls:NearestTemplate",
        },
        "task": {
            "validity": "tasks.validity:Validity",
            "properties": "tasks.properties:Properties",
            "stability": "tasks.stability.task:Stability",
            "novelty": "tasks.novelty:Novelty",
            "symmetry": "tasks.symmetry:Symmetry",
            "distribution": "tasks.distribution:Distribution",
            "coverage": "tasks.coverage.task:Coverage",
            "memorisation": "tasks.memorisation:Memorisation",
        },
        # (data set, crystals as generated, relaxed, which of the first are, tasks, rules) -> columns; (data set,
        # relaxed ones that are stable, number of all, rules) -> metric.
        "relaxed": {"changes": "tasks.as_relaxed:changes", "sun": "tasks.as_relaxed:sun_rate_relaxed"},
        # Of `bench csp`, whose runs have this task alone: it needs the compositions.
        "prediction": {"structure_prediction": "tasks.structure_prediction:StructurePrediction"},
        "cost": {
            "cost": "tasks.cost:cost_metrics",
            "calibrated": "tasks.cost:costs_per_calibrated",
            "prediction": "tasks.cost:costs_per_match",
        },
        # (run folders) -> text to show; writes into the report/ of each.
        "report": {
            "table1": "reports.tables.table1:write_reports",
            "figure2": "reports.figures.figure2:write_reports",
            "yield_curve": "reports.yields.figure:write_reports",
            "pareto": "reports.figures.pareto:write_reports",
        },
        # The same for runs of `bench csp`.
        "prediction_report": {
            "structure_prediction": "reports.structure_prediction.table:write_reports",
            "match_curve": "reports.structure_prediction.curve:write_reports",
        },
        # (run folders, format, paper) -> text; the yield's is (run folders, device seconds, format) -> text, the
        # leaderboard's (run folders, metric or None) -> text.
        "table": {
            "table1": "reports.tables.table1:render",
            "yield": "reports.yields.figure:render_at",
            "leaderboard": "reports.tables.leaderboard:render",
            "costs": "reports.tables.costs:render",
            "by_size": "reports.tables.by_size:render",
            "disagreements": "reports.tables.disagreements:render",
            "structure_prediction": "reports.structure_prediction.table:render",
            "learning": "reports.learning.tables:render",
        },
        # (run folders, file, paper, with leaderboard, its metric or None) -> text to show; writes the file. The site's
        # is (run folders or folders of such, folder) -> text to show.
        "page": {"html": "reports.page.html_page:write_page", "site": "reports.site.pages:write_site"},
        "trainer": {"train": "models.training.run:train"},
        # What `bench learn` trains: `bench.interfaces.Trainable`.
        "trainable": {
            "crysldm": "models.training.learning:crysldm",
            "diffcsp": "models.training.learning:diffcsp",
            "cdvae": "models.training.learning:cdvae",
        },
        # As "report", of runs of `bench learn`.
        "learning_report": {"learning": "reports.learning.figure:write_reports"},
        # (potential, folder, phases to relax, extend, workers, on_progress) -> text to show.
        "hull": {"build": "tasks.stability.hull.build:build"},
        # (folder of a published checkpoint, or weights that `bench train` wrote, ...) -> generator
        "weights": {
            "published": "models.baselines.cdvae.generator:published",
            "trained": "models.trained:trained",
        },
        # (data set, folder); writes there what the task of that name knows of the splits.
        "reference": {"symmetry": "tasks.space_groups:write_space_groups"},
        # (deep) -> (what, "ok" | "missing" | "broken", what was found, how to get it, required) of each, for `doctor`.
        "examination": {"potentials": "tasks.stability.examination:examine_potentials"},
    }
)
NAMED_TASKS = ("coverage", "memorisation")  # take minutes or need the splits: run only where they are asked for
ENTRY_POINTS = "crysldm_bench.generators"
TASK_ENTRY_POINTS = "crysldm_bench.tasks"
TRAINABLE_ENTRY_POINTS = "crysldm_bench.trainables"
PACKAGES = ("models", "tasks", "reports")
SHIPPED_WEIGHTS = ("models", "shipped")  # package and folder of the weights' cards

TASK_NAME = re.compile(r"[A-Za-z0-9_]+")  # without the hyphen that comes before a second potential
RESERVED_TABLES = ("batches",)  # what else lies beside a task's table


def check_packages() -> None:
    """ValueError where another package named models, tasks or reports would be imported instead of ours.

    Looks only where they lie; imports none of them.
    """
    ours = Path(bench.__file__).resolve().parent.parent
    for name in PACKAGES:
        found = find_spec(name)
        if found is None:
            raise ValueError(
                f"the package {name!r} of crysldm-bench is missing beside {ours / 'bench'}; install it again"
            )
        places = [Path(p) for p in found.submodule_search_locations or [found.origin or ""]]
        if (ours / name) not in [place.resolve() for place in places]:
            raise ValueError(
                f"another package named {name!r} ({places[0]}) hides the one of crysldm-bench ({ours / name}); "
                "start with `crysldm-bench ...` or `python -P -m bench ...`, or from another folder"
            )


def load(target: str) -> Any:
    """What "module:attribute" names. ValueError where there is no such module or attribute, or one of its needs."""
    module_name, _, attribute = target.partition(":")
    if module_name.partition(".")[0] in PACKAGES:
        check_packages()
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{target}: there is no module {error.name!r} on Python's path") from None
        raise ValueError(f"{target} needs the package {error.name!r}, which is not installed") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{target}: the module {module_name} has no {attribute!r}")
        found = getattr(found, part)
    return found


def exists(target: str) -> bool:
    """Whether the module of "module:attribute" is there, without importing it."""
    check_packages()
    try:
        return find_spec(target.partition(":")[0]) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


def known(kind: Kind) -> dict[str, str]:
    """Name -> target of the plug-ins of a kind whose modules exist, in the table's order."""
    return {name: target for name, target in PLUGINS[kind].items() if exists(target)}


def plugin(kind: Kind, name: str) -> Any:
    """The plug-in of that name. ValueError lists the known ones."""
    targets = known(kind)
    if name not in targets:
        raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(targets) or 'none'}")
    return load(targets[name])


def plugin_generators() -> dict[str, EntryPoint]:
    """Generators of other installed packages. ValueError where two, or one of ours, have the same name."""
    return _installed("generator", ENTRY_POINTS)


def plugin_tasks() -> dict[str, EntryPoint]:
    """Tasks of other installed packages. ValueError for a name that two have, one of ours has, or no table can have."""
    found = _installed("task", TASK_ENTRY_POINTS)
    for name, entry in found.items():
        if not TASK_NAME.fullmatch(name) or name in RESERVED_TABLES:
            raise ValueError(f"task {name!r} ({entry.value}): its name must be of letters, digits and _, not batches")
    return found


def plugin_trainables() -> dict[str, EntryPoint]:
    """Trainable models of other installed packages. ValueError where two, or one of ours, have the same name."""
    return _installed("trainable", TRAINABLE_ENTRY_POINTS)


def _installed(kind: Kind, group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found[entry.name].value if entry.name in found else PLUGINS[kind].get(entry.name)
        if other not in (None, entry.value):
            raise ValueError(f"two {kind}s are named {entry.name!r}: {other} and {entry.value}; uninstall one of them")
        found[entry.name] = entry
    return found


def task_names(names: Sequence[str] | None) -> list[str]:
    """These tasks and those that they need (`needs` of their classes), in the table's order; for None, all of ours.

    All but NAMED_TASKS, that is. Those of other packages come last, and only where they are named: what is installed
    does not change what a run is.
    ValueError lists the known ones.
    """
    if names is None:
        return [name for name in known("task") if name not in NAMED_TASKS]
    targets = _task_targets()
    wanted = list(names)
    for name in wanted:  # which grows meanwhile
        if name not in targets:
            raise ValueError(f"unknown task {name!r}; known are {', '.join(targets) or 'none'}")
        wanted += [needed for needed in getattr(load(targets[name]), "needs", ()) if needed not in wanted]
    return [name for name in targets if name in wanted]


def _task_targets() -> dict[str, str]:
    return {**known("task"), **{name: entry.value for name, entry in plugin_tasks().items()}}


def _label(potential: str) -> str:
    """The name of a potential or of a chain of them, first+judge; of paths, their last part."""
    return "+".join(Path(part).name for part in potential.split("+"))


def build_tasks(
    names: Sequence[str] | None,
    potentials: Sequence[str] = (),
    dataset: str | None = None,
    hull: str | None = None,
    hull_run_types: Sequence[str] = (),
    rules: str | None = None,
) -> list[Task]:
    """The tasks of `task_names`.

    A task that takes `dataset` gets the name of the run's. One that takes `potential` is built once for each potential
    asked for: the first has the plain name, the others "stability-<potential>". hull, hull_run_types, rules:
    for those that take one.
    ValueError where one of another package has not the name of its entry point, which is that of its table.
    """
    tasks: list[Task] = []
    takes_potential = takes_hull = takes_rules = False
    targets = _task_targets()
    for name in task_names(names):
        factory = load(targets[name])
        accepted = inspect.signature(factory).parameters
        options: dict[str, Any] = {"dataset": dataset} if "dataset" in accepted else {}
        if hull is not None and "hull" in accepted:
            takes_hull = True
            options["hull"] = hull
        if hull_run_types and "hull_run_types" in accepted:
            options["hull_run_types"] = tuple(hull_run_types)
        if rules is not None and "rules" in accepted:
            takes_rules = True
            options["rules"] = rules
        if potentials and "potential" in accepted:
            takes_potential = True
            tasks += [
                factory(potential=potential, name=task_name(name, _label(potential)) if number else name, **options)
                for number, potential in enumerate(potentials)
            ]
        else:
            tasks.append(factory(**options))
        if not hasattr(tasks[-1], "name") or task_kind(tasks[-1]) != name:
            raise ValueError(f"the task {name} ({targets[name]}) must have that as its `name`")
    if potentials and not takes_potential:
        raise ValueError(f"--potential {','.join(potentials)}: none of the tasks asked for takes a potential")
    if hull_run_types and hull is None:
        raise ValueError(f"--hull-run-types {','.join(hull_run_types)}: needs --hull FILE with entries as JSON")
    if hull is not None and not takes_hull:
        raise ValueError(f"--hull {hull}: none of the tasks asked for takes a hull")
    if rules is not None and not takes_rules:
        raise ValueError(f"--rules {rules}: none of the tasks asked for has rules; validity and novelty have")
    return tasks
