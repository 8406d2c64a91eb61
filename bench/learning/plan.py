"""What `bench learn` is asked for: which models are trained, how long, how often, and when snapshots are taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

SNAPSHOTS = 6
Usual = Literal["all", "last", "none"]


@dataclass(frozen=True)
class LearningPlan:
    """What `bench learn` asks for besides a run's other settings.

    models: names of trainable models, or module:Class. budget_s: device seconds of each training. seeds: trainings of
    each model. snapshots: the last one at the end of the budget, each other at half the time of the next. factors:
    learning rates to train with besides the model's own, as multiples of it. usual: which snapshots the usual sampler
    samples, where a model has one of few steps as well, which samples all of them. cpu_time: whether device seconds of
    training and sampling are CPU seconds of the process (`bench.budget.device_clock`).
    """

    models: tuple[str, ...]
    budget_s: float
    seeds: int = 3
    snapshots: int = SNAPSHOTS
    factors: tuple[float, ...] = ()
    usual: Usual = "all"
    cpu_time: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("--models: name at least one model that can be trained")
        for name in set(self.models):
            if self.models.count(name) > 1:
                raise ValueError(f"--models: {name} is there twice; leave one out")
        if not 0 < self.budget_s < math.inf:
            raise ValueError(f"--train-budget {self.budget_s} s: must be more than nothing")
        for option, value in (("--seeds", self.seeds), ("--snapshots", self.snapshots)):
            if value < 1:
                raise ValueError(f"{option} {value}: must be at least 1")
        for factor in self.factors:
            if not 0 < factor < math.inf or factor == 1:
                raise ValueError(f"--learning-rate-factors {factor:g}: write numbers above 0 but 1, such as 0.5,2")
            if self.factors.count(factor) > 1:
                raise ValueError(f"--learning-rate-factors: {factor:g} is there twice; leave one out")
        if self.usual not in get_args(Usual):
            raise ValueError(f"--usual-sampler {self.usual}: known are {', '.join(get_args(Usual))}")

    @property
    def marks(self) -> tuple[float, ...]:
        """Device seconds at which snapshots are taken, ascending: evenly spaced on a logarithmic scale."""
        return tuple(self.budget_s * 0.5**k for k in reversed(range(self.snapshots)))

    @property
    def all_factors(self) -> tuple[float, ...]:
        """Of the learning rate, the model's own first."""
        return (1.0, *self.factors)

    def to_json(self) -> dict[str, Any]:
        """For the manifest, from which `from_json` makes one again."""
        return {**asdict(self), "models": list(self.models), "factors": list(self.factors)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LearningPlan:
        """The plan of a stored run."""
        own: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
        return cls(**own)


class Place(NamedTuple):
    """Where a snapshot stands: which model was trained, with which factor of the learning rate, how far.

    curve: key of its sampler's curve in the summary. number: of the snapshot. mark_s: device seconds it was due at.
    """

    model: str
    factor: float
    curve: str
    number: int
    mark_s: float


def training_label(model: str, factor: float) -> str:
    """The folder of a model's trainings, below training/."""
    return model if factor == 1 else f"{model}-lr{factor:g}"


def entry_name(place: Place) -> str:
    """The name in the run folder: "crysldm-fast+75s"."""
    return f"{place.curve}+{place.mark_s:.6g}s"
