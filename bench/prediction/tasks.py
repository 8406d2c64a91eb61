"""The tasks of a run: those of its plan, or the one of crystal structure prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.interfaces import Task
from bench.prediction.compositions import PredictionPlan, Targets

if TYPE_CHECKING:
    from bench.sampling.model import Model

PREDICTION = "structure_prediction"


def prediction_task(targets: Targets) -> Task:
    """The task that holds predictions against these compositions' structures."""
    task: Task = registry.plugin("prediction", PREDICTION)(targets.references, targets.protocol())
    return task


def asked_samples(targets: Targets, models: Sequence[Model]) -> int:
    """Samples of each composition: as asked for, else as many as the files of predictions hold, else 1.

    ValueError where the files hold different numbers, or others than models are to sample.
    """
    if targets.plan.samples is not None:
        return targets.plan.samples
    held = {model.name: model.file.holds // len(targets) for model in models if model.spec.is_file}
    if not held:
        return 1
    if len(set(held.values())) > 1 or (len(held) < len(models) and set(held.values()) != {1}):
        said = ", ".join(f"{name} has {samples}" for name, samples in held.items())
        raise ValueError(f"samples of each composition: {said}; --samples says how many the models of a run have")
    return next(iter(held.values()))


def stored_targets(manifest: Mapping[str, Any]) -> Targets | None:
    """The compositions of a stored run of `bench csp`; None of another run."""
    if "prediction" not in manifest:
        return None
    return Targets.of(manifest["dataset"], PredictionPlan(**manifest["prediction"]), int(manifest["seed"]))
