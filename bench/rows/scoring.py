"""Scores of a row: computed like those of any file, stored beside its card, and held to what today's code gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import registry, runner
from bench.atomic import write_json
from bench.datasets import reference_card
from bench.executor import Executor
from bench.model_specs import ModelSpec, file_model
from bench.rows.card import RowCard
from bench.rows.samples import SamplesNotHere, chosen_samples, find_samples
from bench.run_folder import manifest as manifests
from bench.statistics import Metric
from bench.store import MANIFEST, SUMMARY, Run
from bench.verdicts import EXACT_RTOL, OF_THE_MACHINE, Tolerance, Verdict, compare, is_time

QUICK_TASKS = ("validity", "properties", "symmetry", "distribution")  # seconds for a thousand crystals, without data
# Versions of libraries in protocols: another one is no fault of a row as long as its figures are the same.
LIBRARIES = ("smact", "spglib", "pymatgen")
META, RUN = "meta.json", "run"


@dataclass(frozen=True)
class Scoring:
    """How rows are scored. tasks, potentials: as of `bench score`. work: where the runs lie, a folder for each row."""

    tasks: Sequence[str] | None = None
    potentials: Sequence[str] = ()
    work: Path = Path("runs/rows")
    workers: int = 2
    samples: Path | None = None


def score(folder: Path, how: Scoring, executor: Executor | None = None) -> None:
    """Scores a row and writes its manifest.json and summary.json; goes on where an earlier call was stopped.

    ValueError where the card, the crystals or an earlier run of the row are not what they should be.
    """
    card = RowCard.read(folder)
    work = how.work / card.name
    spec = _spec(card, folder, work, how.samples)
    root = work / RUN
    if (root / MANIFEST).is_file():
        given = {"tasks": how.tasks, "potentials": list(how.potentials) or None}
        try:
            runner.resume(root, how.workers, given, executor=executor)
        except ValueError as error:
            raise ValueError(f"{error}; or delete {root} to score the row from the start") from error
    else:
        runner.run(_plan(card, spec, how.tasks, how.workers, how.potentials), root, executor=executor)
    publish(Run.open(root), card, folder)


def publish(run: Run, card: RowCard, folder: Path) -> None:
    """Writes what reports read of a run into the row's folder, without names of machines and folders."""
    content = manifests.published(run.manifest)
    entry = content["models"][card.name]
    spec = {**entry["spec"], "text": card.name, "target": card.samples.file, "meta": None}
    content |= {
        "device": {"kind": "stated", "name": card.content.get("device", "not said")},
        "models": {card.name: {**entry, "spec": spec, "samples": dict(card.content["samples"])}},
    }
    write_json(folder / SUMMARY, run.summary())
    write_json(folder / MANIFEST, content)


def faults(folder: Path, samples: Path | None = None, workers: int = 2) -> Iterator[str]:
    """What is wrong with a row: card, checksum, stored scores, and figures that the quick tasks give otherwise today.

    SamplesNotHere, after all else, where the crystals are not on this machine.
    """
    try:
        card = RowCard.read(folder)
        if not (folder / MANIFEST).is_file():
            raise ValueError(f"not scored yet; `bench rows score {folder}` does it")
        run = Run.open(folder)
        entries = run.results()
        if card.name not in entries:
            raise ValueError(f"its scores are of {', '.join(entries) or 'nothing'}; `bench rows score {folder}` anew")
        entry = entries[card.name]
    except ValueError as error:
        yield str(error)
        return
    found = list(_stored_faults(run, card, entry))
    yield from found
    try:
        path = find_samples(card, folder, samples)
    except SamplesNotHere:
        raise
    except ValueError as error:
        yield str(error)
        return
    if not found:
        other = "; ".join(line for line in _protocol_differences(run, card) if _is_version(line))
        with_others = f" (with other libraries: {other})" if other else ""
        yield from (f"{fault}{with_others}" for fault in _moved_figures(card, path, entry, workers))


def _stored_faults(run: Run, card: RowCard, entry: dict[str, Any]) -> Iterator[str]:
    """Where the stored scores are of another card or protocol."""
    stored = run.manifest["models"].get(card.name, {})
    said = {"dataset": card.dataset, "samples": card.content["samples"], "costs": card.costs.to_json()}
    scored = {"dataset": run.dataset, "samples": stored.get("samples"), "costs": stored.get("costs")}
    found = [f"not scored by {name}" for name in QUICK_TASKS if name not in run.tasks]
    found += manifests.differences(scored, manifests.as_json(said), "scored")
    found += [line for line in _protocol_differences(run, card) if not _is_version(line)]
    if not int(entry["requested"]):
        found.append("no crystal was scored")
    yield from (f"{fault}; write the scores anew with `bench rows score`" for fault in found)


def _protocol_differences(run: Run, card: RowCard) -> list[str]:
    """Where the protocol of the stored scores is not today's, of those quick tasks that they have."""
    names = [name for name in QUICK_TASKS if name in run.tasks]
    tasks = registry.build_tasks(names, dataset=card.dataset)
    now = manifests.protocol(card.dataset, reference_card(card.dataset).sha256, tasks)
    then = run.manifest["protocol"]
    of_these = {**then, "tasks": {name: how for name, how in then["tasks"].items() if name in names}}
    return list(manifests.differences(of_these, now, "protocol"))


def _is_version(difference: str) -> bool:
    return difference.partition(":")[0].rpartition(".")[2] in LIBRARIES


def _moved_figures(card: RowCard, path: Path, entry: dict[str, Any], workers: int) -> Iterator[str]:
    """Each metric of the quick tasks that its crystals do not give today."""
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        root = work / RUN
        spec = _spec(card, work, work, path)
        runner.run(_plan(card, spec, QUICK_TASKS, workers), root)
        fresh = Run.open(root).results()[card.name]
    if fresh["requested"] != entry["requested"]:
        yield f"{entry['requested']} crystals were scored, and the file has {fresh['requested']}"
        return
    for name, figure in fresh["metrics"].items():
        if is_time(name) or name.startswith(OF_THE_MACHINE):
            continue
        stored = entry["metrics"].get(name)
        if stored is None:
            yield f"{name} is not among the stored scores; write them anew with `bench rows score`"
            continue
        old, new = Metric.from_json(stored), Metric.from_json(figure)
        verdict, _ = compare(name, old, new, equal_n=True, tolerance=Tolerance(EXACT_RTOL, exact=True))
        if verdict not in (Verdict.SAME, Verdict.UNDEFINED):
            yield f"{name} is stored as {old.value}, and the crystals give {new.value}"


def _spec(card: RowCard, folder: Path, work: Path, samples: Path | None) -> ModelSpec:
    """The row as a file of crystals with what it cost, both in `work` where they are not a file already."""
    path = chosen_samples(card.samples, find_samples(card, folder, samples), work)
    costs = card.costs.to_json()
    if not costs:
        return file_model(path, card.name)
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / META, costs)
    return file_model(path, card.name, work / META)


def _plan(
    card: RowCard, spec: ModelSpec, tasks: Sequence[str] | None, workers: int, potentials: Sequence[str] = ()
) -> runner.Plan:
    return runner.Plan(
        models=[spec], dataset=card.dataset, tasks=tasks, potentials=potentials, device="cpu", workers=workers
    )
