"""The entries of --models: what each names, and the generator or file behind it."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.interfaces import Generator
from bench.progress import say
from bench.registry import PLUGINS, exists, known, load, plugin_generators

TRAINED_WEIGHTS = "weights.safetensors"  # what `bench train` leaves in its folder
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")
RESERVED_NAMES = ("report", "training", "manifest.json", "summary.json")  # what else lies in a run folder


@dataclass(frozen=True)
class ModelSpec:
    """One entry of --models. text: as typed. target: "module:attribute", or the path of a file of crystals.

    meta: JSON file with what a file's crystals cost. builtin: takes dataset, preset and steps. weights: folder of a
    published checkpoint or weights that `bench train` wrote, which the generator takes. compiled: by torch.compile.
    steps: after the @, None for the generator's own.
    name: folder and key in the summary; None for module:Class, whose generator says it.
    """

    text: str
    name: str | None
    target: str
    is_file: bool = False
    builtin: bool = False
    steps: int | None = None
    meta: str | None = None
    weights: str | None = None
    compiled: bool = False


def parse_models(text: str) -> list[ModelSpec]:
    """The entries of "a,b@STEPS,name=FILE,module:Class". ValueError says which is wrong and what is known."""
    entries = [entry.strip() for entry in text.split(",")]
    if not any(entries):
        raise ValueError(f"--models names no model; known are {', '.join(_generator_names())}")
    specs = [_parse_model(entry) for entry in entries if entry]
    require_distinct([spec.name for spec in specs if spec.name is not None])
    return specs


def file_model(path: Path, name: str | None = None, meta: Path | None = None) -> ModelSpec:
    """The entry of a file or folder of crystals, by default with the file's own name without its endings."""
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}")
    if name is None:
        stem = path.resolve().name.split(".")[0]
        name = re.sub(r"[^A-Za-z0-9._+@-]+", "-", stem).strip("-._+@") or "crystals"
    require_distinct([name])
    return ModelSpec(f"{name}={path}", name, str(path), is_file=True, meta=None if meta is None else str(meta))


def with_meta(specs: Sequence[ModelSpec], texts: Sequence[str]) -> list[ModelSpec]:
    """The entries with the JSON files that say what a file's crystals cost: NAME=FILE, or FILE where one can be meant.

    ValueError where a text names no entry that is a file of crystals, one twice, or no file.
    """
    metas: dict[str, str] = {}
    files = [spec.name for spec in specs if spec.is_file and spec.name is not None]
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or name not in [spec.name for spec in specs]:
            if len(files) != 1:
                raise ValueError(
                    f"--meta {text!r}: write NAME=FILE, NAME being one of {', '.join(files) or 'none here'}"
                )
            name, path = files[0], text
        if name not in files:
            raise ValueError(f"--meta {text!r}: {name} samples here, which measures what it costs")
        if name in metas or not Path(path).is_file():
            raise ValueError(f"--meta {text!r}: {f'{name} has one already' if name in metas else f'no file {path}'}")
        metas[name] = path
    return [replace(spec, meta=metas.get(spec.name or "", spec.meta)) for spec in specs]


def with_compiled(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """The entries, compiled where their generators take `compiled`; says which do not. ValueError where none does."""
    able = [not spec.is_file and "compiled" in _accepted(_factory(spec)) for spec in specs]
    if not any(able):
        raise ValueError(f"--compile: none of {', '.join(spec.text for spec in specs)} can be compiled; leave it out")
    for spec, can in zip(specs, able, strict=True):
        if not can and not spec.is_file:
            say(f"{spec.text}: not compiled, which its generator does not offer")
    return [replace(spec, compiled=can) for spec, can in zip(specs, able, strict=True)]


def require_distinct(names: Sequence[str]) -> None:
    """ValueError where two models of a run have the same name, or one that cannot be a folder's."""
    for name in names:
        if not MODEL_NAME.fullmatch(name) or name in RESERVED_NAMES:
            raise ValueError(f"model name {name!r}: use letters, digits and . _ + @ - for the name of its folder")
        if names.count(name) > 1:
            raise ValueError(
                f"two models are named {name!r}; give one of them another name (name=FILE, another @STEPS)"
            )


def _parse_model(entry: str) -> ModelSpec:
    name, equals, path = entry.partition("=")
    if equals:
        if not name or not path:
            raise ValueError(f"--models {entry!r}: write name=FILE")
        trained = Path(path) / TRAINED_WEIGHTS  # in the folder that `bench train` wrote
        place = trained if trained.is_file() else Path(path)
        target = _taking_weights(place, name)
        if target is not None:
            require_distinct([name])
            return ModelSpec(entry, name, target, steps=_steps(entry, name), weights=str(place.resolve()))
        return file_model(place, name)
    if ":" in entry:
        return ModelSpec(entry, None, entry)
    name, steps = entry.partition("@")[0], _steps(entry, entry)
    if name in PLUGINS["generator"] and exists(PLUGINS["generator"][name]):
        return ModelSpec(entry, entry, PLUGINS["generator"][name], builtin=True, steps=steps)
    plugins = plugin_generators()
    if name in plugins:
        return ModelSpec(entry, entry, plugins[name].value, steps=steps)
    raise ValueError(
        f"unknown model {name!r}; known are {', '.join(_generator_names())}, "
        "or name=FILE (of crystals or weights), or module:Class"
    )


def _taking_weights(path: Path, name: str) -> str | None:
    """The generator that takes what lies at a path as its weights; None where crystals lie there.

    Weights that `bench train` wrote go to the generator of that name, another sampler perhaps, or else to their own.
    """
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        return PLUGINS["generator"].get(name.partition("@")[0], PLUGINS["weights"]["trained"])
    if path.suffix == ".ckpt":
        raise ValueError(f"{path}: a checkpoint; name {TRAINED_WEIGHTS} beside it, or a published checkpoint's folder")
    return PLUGINS["weights"]["published"] if any(path.glob("*.ckpt")) else None


def _steps(entry: str, name: str) -> int | None:
    """The number after the @ of a name; None where there is none."""
    stem, at, count = name.partition("@")
    if at and (not count.isdecimal() or int(count) == 0):
        raise ValueError(f"--models {entry!r}: after @ comes a number of steps, such as {stem}@100")
    return int(count) if at else None


def _generator_names() -> list[str]:
    return [*known("generator"), *plugin_generators()]


def _factory(spec: ModelSpec) -> Any:
    """What an entry's target names."""
    if spec.name is None:
        look_in_current_folder()
    return load(spec.target)


def with_weights(spec: ModelSpec, weights: Path) -> ModelSpec:
    """The same generator on these weights, a file or a folder."""
    return replace(spec, weights=str(weights))


def look_in_current_folder() -> None:
    """Puts the folder where a user's own module lies on Python's path: at the end, where it hides nothing."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _accepted(factory: Any) -> Collection[str]:
    """Names of the arguments of a class or factory."""
    return inspect.signature(factory).parameters if callable(factory) else ()


def build_generator(spec: ModelSpec, dataset: str, preset: str) -> Generator:
    """The generator of an entry, not yet loaded. ValueError where it cannot be built so or is no generator.

    Ours are built with dataset, preset and steps (None for the preset's own). Those of others with the ones of these
    that their signature names; steps must be among them where @STEPS was typed.
    """
    factory = _factory(spec)
    if not callable(factory):
        raise ValueError(f"{spec.target} is no class or factory")
    options: dict[str, Any] = {"dataset": dataset, "preset": preset, "steps": spec.steps}
    if spec.weights is not None:
        options |= {"weights": Path(spec.weights), "name": spec.name}
    if spec.compiled:
        options |= {"compiled": True}
    if not spec.builtin:
        accepted = _accepted(factory)
        if spec.steps is not None and "steps" not in accepted:
            raise ValueError(f"--models {spec.text!r}: {spec.target} takes no number of steps")
        if spec.weights is not None and "weights" not in accepted:
            raise ValueError(f"--models {spec.text!r}: {spec.target} takes no weights")
        options = {name: value for name, value in options.items() if name in accepted and value is not None}
    try:
        generator = factory(**options)
    except TypeError as error:
        raise ValueError(
            f"{spec.target} cannot be built with {', '.join(options) or 'no arguments'}: {error}"
        ) from error
    if not isinstance(generator, Generator):
        raise ValueError(f"{spec.target} gave {type(generator).__name__}, which has no name, load and sample")
    return generator
