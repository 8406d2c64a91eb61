"""Crystals from a trained diffusion model: the generator that CrysLDM and DiffCSP share, and its named samplers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.datasets import canonical_name, reference_card
from bench.interfaces import SampleBatch
from models.compiled import compile_networks
from models.cspnet import CSPNet
from models.guidance import Guidance, weak_path
from models.presets import preset
from models.sampling import StepCallback, sample_crystals
from models.weights import (
    MAY_DIFFER_IN_A_WEAK_NETWORK,
    differing_keys,
    find_weights,
    load_into,
    read_card,
    read_config,
    read_weights,
)

Settings = TypeVar("Settings")


def sampler_from_card(settings: Callable[..., Settings], values: Mapping[str, Any]) -> Settings:
    """A sampler's settings as a weights card holds them; what it does not name has its default."""
    clamp, guidance = values.get("clamp"), values.get("guidance")
    if guidance is not None:
        between = guidance.get("products", guidance.get("alpha_bar_range"))
        others = {name: value for name, value in guidance.items() if name not in ("products", "alpha_bar_range")}
        guidance = Guidance(**others, alpha_bar_range=tuple(between))
    return settings(**{**values, "clamp": None if clamp is None else tuple(clamp), "guidance": guidance})


def sampler_to_card(settings: Any) -> dict[str, Any]:
    """A sampler's settings as plain values, in the words of the manifests of runs that are stored already."""
    values = asdict(settings)
    if values["guidance"] is not None:
        values["guidance"]["products"] = values["guidance"].pop("alpha_bar_range")
    return values


@dataclass(frozen=True)
class NamedSampler:
    """A named sampler on a model's weights.

    suffix: of the model's name. changes: fields of the sampler's settings and their values. as_published: whether they
    change the published settings rather than those of the weights' card. steps: taken when none are asked for, None
    for T.
    """

    suffix: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    as_published: bool = False
    steps: int | None = None

    def settings(self, of_card: Any, fewer_steps: bool) -> Any:
        """The sampler's settings. fewer_steps: whether fewer than T are taken."""
        base = type(of_card)() if self.as_published else of_card
        return replace(base.for_few_steps() if fewer_steps else base, **self.changes)

    @property
    def needs_weak_network(self) -> bool:
        """Whether a weak network, whose weights lie beside the model's (`weak_path`), guides it."""
        guidance = self.changes.get("guidance")
        return guidance is not None and guidance.away_from == "weak network"


@dataclass(frozen=True)
class GeneratorFactory:
    """Builds the generators of a model: of any data set, number of steps and weights, by one of its samplers.

    name: of the model. module: configuration -> model. config_from_card: what a weights card says of it ->
    configuration.
    """

    name: str
    module: Callable[[Any], Any]
    config_from_card: Callable[[dict[str, Any]], Any]
    sampler: NamedSampler = field(default_factory=NamedSampler)

    def __call__(
        self,
        dataset: str,
        preset: str = "cpu",
        steps: int | None = None,
        weights: Path | None = None,
        compiled: bool = False,
    ) -> DiffusionGenerator:
        """The generator, not loaded. Arguments and errors as of `DiffusionGenerator`."""
        return DiffusionGenerator(self, dataset, preset, steps, weights, compiled)

    def with_sampler(
        self, suffix: str, *, as_published: bool = False, steps: int | None = None, **changes: Any
    ) -> GeneratorFactory:
        """The factory of another sampler on the same weights: this one's settings with these changes."""
        sampler = NamedSampler(suffix, {**self.sampler.changes, **changes}, as_published, steps)
        return replace(self, sampler=sampler)


class DiffusionGenerator:
    """A trained model as a `bench.interfaces.Generator`.

    factory: says which model and which sampler. steps: of the sampler, strided evenly over 1..T when fewer; None for
    the sampler's own, or T. weights: a file, or None for the shipped weights of (model, dataset, preset). compiled:
    networks by torch.compile; `compile_seconds` is what that took once they are loaded, None without. ValueError
    where weights, or the weak network that the sampler needs, are missing, of another data set or without so many
    steps.
    """

    compile_seconds: float | None = None

    def __init__(
        self,
        factory: GeneratorFactory,
        dataset: str,
        preset: str = "cpu",
        steps: int | None = None,
        weights: Path | None = None,
        compiled: bool = False,
    ) -> None:
        self._compiled = compiled
        named = factory.sampler
        self.name = factory.name + named.suffix
        self.dataset = canonical_name(dataset)
        self.preset = preset
        self._factory = factory
        self.weights = weights or find_weights(factory.name, self.dataset, preset)
        config = self._config(self.weights)
        if steps is None:
            steps = named.steps or config.num_steps
        if not 1 <= steps <= config.num_steps:
            raise ValueError(f"{self.name}@{steps}: steps must be 1 to {config.num_steps}")
        self.steps = steps
        sampler = named.settings(config.sampler, steps < config.num_steps)
        self._sampling_config = replace(config, sampler=sampler)
        self._weak = weak_path(self.weights) if named.needs_weak_network else None
        if self._weak is not None:
            self._check_weak(self._weak)
        self._model: Any = None

    @staticmethod
    def batch_size(device: str) -> int:
        """Crystals a batch: enough to keep the processor busy, few enough for a fine-grained budget."""
        return 50 if device == "cpu" else 500

    @property
    def card(self) -> dict[str, Any]:
        """The weights' card, that of the weak network where one guides, and how the sampler steps, compiled or not."""
        weak = {} if self._weak is None else {"weak": read_card(self._weak)}
        compiled = {"compiled": True} if self._compiled else {}
        sampling = {"steps": self.steps, **sampler_to_card(self._sampling_config.sampler), **compiled}
        return {**read_card(self.weights), **weak, "sampling": sampling}

    @property
    def model(self) -> Any:
        """The network with its schedules, once it is loaded. ValueError before."""
        if self._model is None:
            raise ValueError(f"{self.name}: call load before its model is asked for")
        return self._model

    def load(self, device: str = "cpu") -> None:
        """Reads the weights, checks them against their card and moves them to the device."""
        state_dict = read_weights(self.weights)[0]
        model = self._factory.module(self._sampling_config)
        load_into(model, state_dict, self.weights)
        if self._weak is not None:
            model.weak = self._load_weak(self._weak, state_dict)
        model.requires_grad_(False).eval().to(device)
        self._model = model
        reference = reference_card(self.dataset)
        frequencies: Tensor | None = getattr(model, "type_frequencies", None)
        if frequencies is not None:
            counts = reference.element_counts[1 : len(frequencies) + 1]
            frequencies.copy_(torch.from_numpy(counts / counts.sum()))
        self._probabilities = reference.num_atoms_probabilities
        if self._compiled:
            networks = [model.network] if model.weak is None else [model.network, model.weak]
            atom_numbers = np.flatnonzero(self._probabilities).tolist()
            self.compile_seconds = compile_networks(networks, atom_numbers, device, self.batch_size(device))

    def _config(self, weights: Path) -> Any:
        """The configuration in a weights file's card. ValueError for another data set's, or where there is none."""

        def from_card(values: dict[str, Any]) -> Any:
            config = self._factory.config_from_card(values)
            if not isinstance(config.num_steps, int):
                raise TypeError(f"num_steps is {config.num_steps!r}")
            return config

        return read_config(weights, self._factory.name, self.dataset, from_card, self.name)

    def _check_weak(self, weak: Path) -> None:
        """ValueError where the weak network is not there or not of the same latents and schedules as the other."""
        if self.weights.stem.endswith("-weak"):
            raise ValueError(
                f"{self.name}: {self.weights} is itself a weak network; choose another --preset or weights"
            )
        ours = read_card(self.weights)["config"]
        if weak.exists():
            self._config(weak)
            others = differing_keys(ours, read_card(weak)["config"], MAY_DIFFER_IN_A_WEAK_NETWORK)
            if others:
                raise ValueError(f"{weak}: does not go with {self.weights} (differs in {', '.join(others)})")
            return
        others = differing_keys(
            ours, asdict(preset(self._factory.name, self.dataset, "cpu-weak").config), MAY_DIFFER_IN_A_WEAK_NETWORK
        )
        if others:
            raise ValueError(
                f"{self.name}: its weak network {weak} is missing, and --preset cpu-weak trains none for these weights "
                f"(differs in {', '.join(others)})"
            )
        raise ValueError(
            f"{self.name}: its weak network {weak} is missing; train it: python -m bench train "
            f"--model {self._factory.name} --dataset {self.dataset} --preset cpu-weak --init {self.weights}, "
            "and put the weights there"
        )

    def _load_weak(self, path: Path, state_dict: Mapping[str, Tensor]) -> CSPNet:
        """The weak network; both must see the same latents, so all but the networks must be equal."""
        weak_dict = read_weights(path)[0]
        weak = self._factory.module(self._config(path))
        load_into(weak, weak_dict, path)
        shared = {key for key in state_dict.keys() | weak_dict.keys() if not key.startswith("network.")}
        if not all(k in state_dict and k in weak_dict and torch.equal(state_dict[k], weak_dict[k]) for k in shared):
            raise ValueError(
                f"{path}: trained on other latents than those of {self.weights}; train it with --init {self.weights}"
            )
        network: CSPNet = weak.network
        return network

    def sample(self, num_crystals: int, seed: int, callback: StepCallback | None = None) -> SampleBatch:
        """That many crystals; a function of (seed, num_crystals, weights, steps, threads, device).

        callback: watches or records the trajectory, as of `models.sampling.sample_crystals`.
        """
        if self._model is None:
            self.load("cpu")
        return sample_crystals(self._model, self._probabilities, num_crystals, seed, self.steps, callback=callback)
