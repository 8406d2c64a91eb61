"""What the tasks say of a data set's own test split: the ceiling of a faithful generator, shipped beside its card.

NAME.test.json is made from a run that scored the split, or crystals drawn from it at random: after
`bench score TEST.csv --dataset NAME --out RUN`, `bench data NAME --reference FOLDER --scored RUN`. It lies beside the
card, also that of another package's data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.atomic import write_text
from bench.errors import one_line
from bench.statistics import Metric

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from bench.store import Run

DECIMALS = 4  # of energies in eV/atom


@dataclass(frozen=True)
class SplitFigures:
    """Figures of a split's own crystals. requested: how many. protocols: task -> settings under which it was scored.

    e_above_hull: eV/atom, of the relaxed crystals that converged, and of the others, without those that have none.
    """

    requested: int
    protocols: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    e_above_hull: Sequence[float] = field(default=())
    e_above_hull_not_converged: Sequence[float] = field(default=())

    @classmethod
    def of_run(cls, run: Run) -> Self:
        """Those of a finished run of one model, whose crystals are the split. ValueError where it has several."""
        entries = run.summary()["models"]
        if len(entries) != 1:
            raise ValueError(f"{run.root}: holds {', '.join(entries) or 'no model'}; figures of a split need one model")
        ((model, entry),) = entries.items()
        energies: dict[bool, list[float]] = {True: [], False: []}
        if run.has_table(model, "stability"):
            for batch in run.scan(model, "stability", ["e_above_hull", "converged"]):
                columns = (batch.column(name).to_pylist() for name in ("e_above_hull", "converged"))
                for energy, converged in zip(*columns, strict=True):
                    if energy is not None:
                        energies[bool(converged)].append(round(energy, DECIMALS))
        return cls(
            int(entry["requested"]),
            run.manifest["protocol"]["tasks"],
            {name: Metric.from_json(figure) for name, figure in entry["metrics"].items()},
            sorted(energies[True]),
            sorted(energies[False]),
        )

    def known(self, metric: str, task: str | None, protocols: Mapping[str, Any]) -> Metric | None:
        """A metric of a task, None where it has none or was scored under another protocol than these."""
        found = self.metrics.get(metric)
        if task is None or found is None or found.value is None or task not in protocols:
            return None
        return found if self.protocols.get(task) == protocols[task] else None

    def write(self, folder: Path, dataset: str) -> None:
        """Writes <dataset>.test.json into the folder."""
        content = {
            "requested": self.requested,
            "protocols": self.protocols,
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "e_above_hull": list(self.e_above_hull),
            "e_above_hull_not_converged": list(self.e_above_hull_not_converged),
        }
        write_text(folder / f"{dataset}.test.json", json.dumps(content) + "\n")

    @classmethod
    def read(cls, folder: Path | Traversable, dataset: str) -> Self | None:
        """The figures in a folder, None where it has none. ValueError where the file is damaged."""
        place = folder / f"{dataset}.test.json"
        if not place.is_file():
            return None
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            metrics = {name: Metric.from_json(figure) for name, figure in content.pop("metrics").items()}
            return cls(metrics=metrics, **content)
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{place}: damaged ({one_line(error)}); write it anew") from error
