"""Crystals from a trained diffusion model: the generator that CrysLDM and DiffCSP share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.datasets import canonical_name, reference_card
from bench.interfaces import SampleBatch
from models.baselines.diffcsp.sampler import STRIDED_CLAMP
from models.crysldm.sampler import SamplerSettings as LatentSampler
from models.cspnet import CSPNet, EvaluationCounter
from models.dense import DenseBatch, buckets, unpack
from models.diffusion import STRIDED_MIN_VOLUME, Noise, SeededNoise
from models.guidance import Guidance, weak_path
from models.presets import preset
from models.weights import (
    FREE_OF_A_WEAK_NETWORK,
    differing_keys,
    find_weights,
    load_into,
    read_card,
    read_weights,
    require_trained_for,
)

Sampler = TypeVar("Sampler")


class DiffusionModel(Protocol):
    """What the generator needs of a model."""

    network: CSPNet
    weak: CSPNet | None
    config: Any
    type_frequencies: Tensor

    def sample(self, batch: int, num_atoms: int, noise: Noise, steps: int) -> DenseBatch:
        """(B) crystals of N atoms."""


def sample_crystals(
    model: DiffusionModel, num_atoms_probabilities: Any, num_crystals: int, seed: int, steps: int, device: str
) -> SampleBatch:
    """Crystals with N ~ p(N), one bucket of equal N after another. What a network makes not finite gets a reason.

    num_atoms_probabilities: (N_max + 1,), entry n is p(N = n).
    """
    size_seed, noise_seed = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    rng = np.random.default_rng(int(size_seed))
    num_atoms = rng.choice(len(num_atoms_probabilities), size=num_crystals, p=num_atoms_probabilities)
    noise = SeededNoise.from_seed(int(noise_seed >> np.uint64(1)), device)
    evaluations = np.zeros(num_crystals, dtype=np.int64)
    batches, places = [], []
    networks = [model.network] if model.weak is None else [model.network, model.weak]
    for n, indices in buckets(num_atoms):
        with EvaluationCounter(*networks) as counter:
            batches.append(model.sample(len(indices), n, noise, steps))
        evaluations[indices] = counter.per_crystal
        places.append(indices)
    filtered = unpack(batches, places)
    return SampleBatch(filtered.crystals, steps, evaluations, dict(filtered.reasons))


def usual_settings(card: Any, strided: bool) -> Any:
    """The sampler's settings in the weights' card, for fewer steps than T changed where they would fail.

    CrysLDM's latents step by DDIM then, DiffCSP's clean values are bounded, and cells of both are kept from
    flattening (from 3 steps on).
    """
    if not strided:
        return card
    if isinstance(card, LatentSampler):
        return replace(card, latent_step="ddim", min_volume=STRIDED_MIN_VOLUME)
    return replace(card, clamp=card.clamp or STRIDED_CLAMP, min_volume=STRIDED_MIN_VOLUME)


def sampler_from_card(settings: Callable[..., Sampler], values: Mapping[str, Any]) -> Sampler:
    """A sampler's settings as a weights card holds them; what it does not name has its default."""
    clamp, guidance = values.get("clamp"), values.get("guidance")
    if guidance is not None:
        guidance = Guidance(**{**guidance, "products": tuple(guidance["products"])})
    return settings(**{**values, "clamp": None if clamp is None else tuple(clamp), "guidance": guidance})


@dataclass(frozen=True)
class Variant:
    """A named sampler. settings: those of the weights' card, and whether fewer steps than T are taken -> its own.

    suffix: of the model's name. steps: that it takes when none are asked for, None for T. weak: whether it needs
    a weak network, whose weights lie beside the model's (`weak_path`).
    """

    suffix: str
    settings: Callable[[Any, bool], Any]
    steps: int | None = None
    weak: bool = False


DEFAULT = Variant("", usual_settings)


def guided(fast: Variant, suffix: str, guidance: Guidance, steps: int) -> Variant:
    """A variant with guidance."""
    weak = guidance.away_from == "weak network"
    return Variant(suffix, lambda card, strided: replace(fast.settings(card, strided), guidance=guidance), steps, weak)


class DiffusionGenerator:
    """A trained model as a `bench.interfaces.Generator`.

    module: configuration -> model. config_from_card: what a weights card says of it -> configuration. steps: of the
    sampler, strided evenly over 1..T when fewer; None for the variant's own, or T. weights: a file, or None for the
    shipped weights of (name, dataset, preset). variant: another sampler on the same weights, whose suffix the name
    gets. ValueError where weights, or the weak network that the variant needs, are missing, of another data set or
    without so many steps.
    """

    def __init__(
        self,
        name: str,
        module: Callable[[Any], Any],
        config_from_card: Callable[[dict[str, Any]], Any],
        dataset: str,
        preset: str = "cpu",
        steps: int | None = None,
        weights: Path | None = None,
        variant: Variant = DEFAULT,
    ) -> None:
        self.name = name + variant.suffix
        self.dataset = canonical_name(dataset)
        self.preset = preset
        self._family = name
        self.weights = weights or find_weights(name, self.dataset, preset)
        self._module, self._config_from_card = module, config_from_card
        config = self._config(self.weights)
        if steps is None:
            steps = variant.steps or config.num_steps
        if not 1 <= steps <= config.num_steps:
            raise ValueError(f"{self.name}@{steps}: steps must be 1 to {config.num_steps}")
        self.steps = steps
        sampler = variant.settings(config.sampler, steps < config.num_steps)
        self._sampling_config = replace(config, sampler=sampler)
        self._weak = weak_path(self.weights) if variant.weak else None
        if self._weak is not None:
            self._check_weak(self._weak)
        self._model: Any = None
        self._device = "cpu"

    @staticmethod
    def batch_size(device: str) -> int:
        """Crystals a batch: enough to keep the processor busy, few enough for a fine-grained budget."""
        return 50 if device == "cpu" else 500

    @property
    def card(self) -> dict[str, Any]:
        """The weights' card, that of the weak network where one guides, and how the sampler steps."""
        weak = {} if self._weak is None else {"weak": read_card(self._weak)}
        sampling = {"steps": self.steps, **asdict(self._sampling_config.sampler)}
        return {**read_card(self.weights), **weak, "sampling": sampling}

    def load(self, device: str = "cpu") -> None:
        """Reads the weights, checks them against their card and moves them to the device."""
        state_dict = read_weights(self.weights)[0]
        model = self._module(self._sampling_config)
        load_into(model, state_dict, self.weights)
        if self._weak is not None:
            model.weak = self._load_weak(self._weak, state_dict)
        model.requires_grad_(False).eval().to(device)
        self._model, self._device = model, device
        reference = reference_card(self.dataset)
        counts = reference.element_counts[1 : len(model.type_frequencies) + 1]
        model.type_frequencies.copy_(torch.from_numpy(counts / counts.sum()))
        self._probabilities = reference.num_atoms_probabilities

    def _config(self, weights: Path) -> Any:
        """The configuration in a weights file's card. ValueError for another data set's, or where there is none."""
        card = read_card(weights)
        require_trained_for(self._family, self.dataset, card, weights)
        try:
            config = self._config_from_card(card["config"])
            if not isinstance(config.num_steps, int):
                raise TypeError(f"num_steps is {config.num_steps!r}")
            return config
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{weights.with_suffix('.json')}: no configuration of {self.name} ({error!r}); get the file again"
            ) from None

    def _check_weak(self, weak: Path) -> None:
        """ValueError where the weak network is not there or not of the same latents and schedules as the other."""
        if self.weights.stem.endswith("-weak"):
            raise ValueError(
                f"{self.name}: {self.weights} is itself a weak network; choose another --preset or weights"
            )
        ours = read_card(self.weights)["config"]
        if weak.exists():
            self._config(weak)
            others = differing_keys(ours, read_card(weak)["config"], FREE_OF_A_WEAK_NETWORK)
            if others:
                raise ValueError(f"{weak}: does not go with {self.weights} (differs in {', '.join(others)})")
            return
        others = differing_keys(
            ours, asdict(preset(self._family, self.dataset, "cpu-weak").config), FREE_OF_A_WEAK_NETWORK
        )
        if others:
            raise ValueError(
                f"{self.name}: its weak network {weak} is missing, and --preset cpu-weak trains none for these weights "
                f"(differs in {', '.join(others)})"
            )
        raise ValueError(
            f"{self.name}: its weak network {weak} is missing; train it: python -m bench train --model {self._family} "
            f"--dataset {self.dataset} --preset cpu-weak --init {self.weights}, and put the weights there"
        )

    def _load_weak(self, path: Path, state_dict: Mapping[str, Tensor]) -> CSPNet:
        """The weak network; both must see the same latents, so all but the networks must be equal."""
        weak_dict = read_weights(path)[0]
        weak = self._module(self._config(path))
        load_into(weak, weak_dict, path)
        shared = {key for key in state_dict.keys() | weak_dict.keys() if not key.startswith("network.")}
        if not all(k in state_dict and k in weak_dict and torch.equal(state_dict[k], weak_dict[k]) for k in shared):
            raise ValueError(
                f"{path}: trained on other latents than those of {self.weights}; train it with --init {self.weights}"
            )
        network: CSPNet = weak.network
        return network

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """That many crystals; a function of (seed, num_crystals, weights, steps, threads, device)."""
        if self._model is None:
            self.load("cpu")
        return sample_crystals(self._model, self._probabilities, num_crystals, seed, self.steps, self._device)
