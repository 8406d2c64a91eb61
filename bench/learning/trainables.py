"""The models that `bench learn` trains, by name, and the curves that their snapshots make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from bench import model_specs, registry
from bench.errors import one_line
from bench.interfaces import Trainable
from bench.learning.plan import LearningPlan, Place, training_label
from bench.model_specs import ModelSpec, parse_models


class Curve(NamedTuple):
    """One sampler on the snapshots of one model's trainings. key: in the summary. text: the sampler, as in --models.

    usual: whether it is the model's usual sampler, where there is one of few steps as well.
    """

    model: str
    factor: float
    key: str
    text: str
    usual: bool


def find_trainable(name: str) -> Trainable:
    """The trainable model of a name, of an installed plug-in or of module:Class. ValueError says what is known."""
    if ":" in name:
        model_specs.look_in_current_folder()
        target = name
    else:
        targets = {**registry.known("trainable"), **{n: e.value for n, e in registry.plugin_trainables().items()}}
        if name not in targets:
            raise ValueError(
                f"--models {name!r}: not known to be trainable; known are {', '.join(targets)}, or module:Class"
            )
        target = targets[name]
    factory: Any = registry.load(target)
    try:
        found = factory()
    except Exception as error:
        raise ValueError(f"{target} cannot be built without arguments: {one_line(error, kind=True)}") from error
    return checked_trainable(found, target)


def checked_trainable(found: Any, what: str) -> Trainable:
    """A trainable model once it has all parts of one. ValueError says which it lacks. what: that gave it."""
    missing = [part for part in ("name", "sampler", "few_steps", "train") if not hasattr(found, part)]
    if missing:
        raise ValueError(f"{what} gave {type(found).__name__}, which has no {', '.join(missing)}")
    model_specs.require_distinct([found.name])
    trainable: Trainable = found
    return trainable


def curves_of(trainable: Trainable, factor: float) -> list[Curve]:
    """Of its trainings with one factor of the learning rate."""
    ending = training_label("", factor)
    few = trainable.few_steps
    curves = [
        Curve(trainable.name, factor, f"{trainable.name}{ending}", trainable.sampler, few is not None),
    ]
    if few is not None:
        key = f"{trainable.name}-few" if ":" in few else few
        curves.append(Curve(trainable.name, factor, f"{key}{ending}", few, False))
    return curves


def all_curves(plan: LearningPlan, trainables: list[Trainable]) -> list[Curve]:
    """Of all models, in their order. ValueError where two have the same name."""
    curves = [curve for t in trainables for factor in plan.all_factors for curve in curves_of(t, factor)]
    model_specs.require_distinct([curve.key for curve in curves])
    return curves


def places_of(plan: LearningPlan, curves: list[Curve]) -> Iterator[tuple[Place, str]]:
    """Every snapshot that is sampled, with the sampler."""
    for curve in curves:
        for number, mark in enumerate(plan.marks):
            at_end = number == plan.snapshots - 1
            if not curve.usual or plan.usual == "all" or (plan.usual == "last" and at_end):
                yield Place(curve.model, curve.factor, curve.key, number, mark), curve.text


def sampler_spec(text: str, entry: str) -> ModelSpec:
    """The sampler of an entry, which takes weights."""
    if ":" in text:
        model_specs.look_in_current_folder()
    (spec,) = parse_models(text)
    if spec.is_file or spec.weights is not None:
        raise ValueError(f"{text!r} is no sampler: name a generator of `bench models`, or module:Class")
    return replace(spec, name=entry, builtin=False)
