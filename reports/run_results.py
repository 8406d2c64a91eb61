"""What runs came to, read from their folders: one result per model, all under one protocol."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.datasets import dataset_spec
from bench.run_folder.manifest import differences
from bench.sampling.usage import ENOUGH_UNDISTURBED
from bench.statistics import Metric
from bench.store import Run

# Settings of tasks that differ as the data set does, and what begins so.
OF_A_DATA_SET = (
    "novelty.training_formulas",
    "symmetry.reference",
    "distribution.reference",
    "coverage.reference.test_split",
    "coverage.cutoffs.structure",
    "coverage.cutoffs.composition",
    "structure_prediction.compositions.",
)
METHODS = {"crysldm": "CrysLDM", "diffcsp": "DiffCSP", "cdvae": "CDVAE"}


@dataclass(frozen=True)
class ModelResult:
    """One model of one run. label: its name, with the run's folder where another run has the same model.

    lost: how many of the crystals asked for are none. loss: the most frequent reason why, empty where none is known.
    card: what the author of a published model says, of a row.
    """

    run: Run
    model: str
    label: str
    requested: int
    metrics: Mapping[str, Metric]
    lost: int = 0
    loss: str = ""
    card: Mapping[str, Any] | None = None

    @property
    def key(self) -> tuple[Path, str]:
        """Its run folder and its name there: no other result has both."""
        return self.run.root, self.model

    @property
    def is_control(self) -> bool:
        """Whether it was counted to spend no network evaluation: no model generated anything."""
        evaluations = self.known("network_evaluations")
        return evaluations is not None and evaluations.value == 0

    @property
    def is_choice(self) -> bool:
        """Whether its crystals are not all that the model made, as it made them: a row of chosen or relaxed ones."""
        return self.card is not None and self.card.get("crystals") != "generated"

    @property
    def is_compared(self) -> bool:
        """Whether it takes part in ranks and marks."""
        return not self.is_control and not self.is_choice

    @property
    def undisturbed_share(self) -> float | None:
        """Share of its seconds in which the machine was free, None where that is not known."""
        found = self.known("undisturbed_share")
        return None if found is None else found.value

    @property
    def was_disturbed(self) -> bool:
        """Whether its times do not count, as the machine was busy."""
        return self.undisturbed_share is not None and self.undisturbed_share < ENOUGH_UNDISTURBED

    @property
    def method(self) -> str:
        """The label with our models' names as their papers write them, and those of rows as their cards do."""
        if self.card is not None:
            return str(self.card.get("model", self.model)) + self.label[len(self.model) :]
        return method_of(self.label)

    @property
    def dataset(self) -> str:
        """The data set's title; its name where the package that brought it is no longer installed."""
        try:
            return dataset_spec(self.run.dataset).title
        except ValueError:
            return self.run.dataset

    def known(self, metric: str) -> Metric | None:
        """The metric, None where it was not computed or is undefined without a bound."""
        found = self.metrics.get(metric)
        return None if found is None or (found.value is None and found.low is None) else found


def method_of(label: str) -> str:
    """A model's label with our models' names as their papers write them: "CDVAE@100"."""
    name, *rest = re.split(r"(?=[@ ])", label, maxsplit=1)
    return METHODS.get(name, name) + "".join(rest)


def read_results(run_dirs: Sequence[Path]) -> list[ModelResult]:
    """The models of the runs, in order, data set by data set.

    ValueError where a folder holds no finished run, or where runs were scored under different protocols.
    """
    runs = [Run.open(folder) for folder in dict.fromkeys(map(Path, run_dirs))]
    if not runs:
        raise ValueError("no run folder named")
    for one, other in combinations(runs, 2):
        require_one_protocol(one, other)
    datasets = [run.dataset for run in runs]
    runs = sorted(runs, key=lambda run: datasets.index(run.dataset))
    summaries = [run.results() for run in runs]
    models = Counter((run.dataset, model) for run, entries in zip(runs, summaries, strict=True) for model in entries)
    folders = Counter(run.name for run in runs)
    results = []
    for run, entries in zip(runs, summaries, strict=True):
        folder = run.name
        where = folder if folders[folder] == 1 else str(run.root)
        for model, entry in entries.items():
            label = model if models[run.dataset, model] == 1 else f"{model} ({where})"
            try:
                metrics = {name: Metric.from_json(figure) for name, figure in entry["metrics"].items()}
                requested, ledger = int(entry["requested"]), entry.get("ledger", {})
                lost = requested - int(ledger.get("parsed", requested))
                loss = next(iter(ledger.get("reasons", {}).get("parsed", {})), "")
                results.append(ModelResult(run, model, label, requested, metrics, lost, loss, run.card))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                remedy = f"write it anew with `python -m bench rescore {run.root}`"
                raise ValueError(f"{run.root}: summary.json is damaged at {model} ({error!r}); {remedy}") from error
    return results


def task_protocols(results: Sequence[ModelResult]) -> Mapping[str, Any]:
    """Task -> its protocol, which is one for all of them (`read_results`)."""
    return {task: how for result in results for task, how in result.run.manifest["protocol"]["tasks"].items()}


def one_device(results: Sequence[ModelResult]) -> bool:
    """Whether the device seconds of these models compare: all were sampled on one kind of device and threads.

    Models whose seconds nobody knows take no part.
    """
    timed = [result.run.manifest for result in results if result.known("seconds_per_crystal")]
    return len({str((manifest["device"], manifest["threads"])) for manifest in timed}) <= 1


def require_one_protocol(one: Run, other: Run) -> None:
    """ValueError where the figures of two runs do not mean the same.

    A data set and its reference may differ, and so may the tasks that were scored: what only one run has is a dash in
    the other's rows.
    """
    first, second = one.manifest["protocol"], other.manifest["protocol"]
    shared = first["tasks"].keys() & second["tasks"].keys()
    found = [d for name in sorted(shared) for d in differences(first["tasks"][name], second["tasks"][name], name)]
    if one.dataset != other.dataset:
        found = [line for line in found if not line.partition(":")[0].startswith(OF_A_DATA_SET)]
    else:
        found += differences(first["reference"], second["reference"], "reference")
        if not found and first["tasks"].keys() == second["tasks"].keys():
            found += differences(one.manifest["protocol_hash"], other.manifest["protocol_hash"], "protocol_hash")
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(
            f"{one.root} and {other.root} have different protocols ({'; '.join(found[:3])}{more}), and one table shows "
            "one; report them apart, or score one anew with `python -m bench rescore`"
        )
