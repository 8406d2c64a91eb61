"""Composition first as a generator of the harness: a composition is drawn, then a structure for it is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrays import IntArray
from bench.datasets import canonical_name, hashes_of, reference_card, training_formulas
from bench.interfaces import SampleBatch
from models.baselines.diffcsp.generator import structures_fast, structures_from_templates
from models.baselines.diffcsp.starts import StartsFactory, with_start
from models.baselines.diffcsp.structure_prediction import predict_structures
from models.baselines.diffcsp.template_start import templates_of_others
from models.composition_first.charges import is_alloy_or_neutral, is_neutral_and_no_alloy
from models.composition_first.composition_model import MOST_DRAWS, CompositionConfig, CompositionModel, Condition
from models.composition_first.transformer import TransformerConfig
from models.composition_first.volumes import with_added_volumes
from models.generation import GeneratorFactory
from models.weights import beside_or_shipped, find_weights, load_into, read_card, read_config, read_weights

NAME = "composition-first"
STRUCTURES = "diffcsp-csp"


def config_from_card(values: dict[str, Any]) -> CompositionConfig:
    """The configuration written in a weights card."""
    return CompositionConfig(network=TransformerConfig(**values["network"]), temperature=float(values["temperature"]))


@dataclass(frozen=True)
class CompositionFirstFactory:
    """Builds the generators of any data set, number of steps and weights, with one sampler of the structures.

    starts: where structures begin, noise without. new_formulas: compositions whose formula the training split has are
    drawn again: what has a known formula is seldom new. neutral: compositions are drawn until they are charge-neutral
    (`CompositionModel.sample`).
    """

    suffix: str
    structures: GeneratorFactory
    starts: StartsFactory | None = None
    new_formulas: bool = False
    neutral: bool = False

    def __call__(
        self, dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None
    ) -> CompositionFirst:
        """The generator, not loaded. weights: of the composition model; other arguments as of `DiffusionGenerator`."""
        return CompositionFirst(self, dataset, preset, steps, weights)


class CompositionFirst:
    """Both trained models as a `bench.interfaces.Generator`.

    steps: of the structures' sampler. weights: of the composition model, or None for the shipped ones; the structures'
    lie beside them, -structures after their name, or are the shipped ones. ValueError where either is missing, of
    another data set or without so many steps.
    """

    def __init__(
        self,
        factory: CompositionFirstFactory,
        dataset: str,
        preset: str = "cpu",
        steps: int | None = None,
        weights: Path | None = None,
    ) -> None:
        self.name = NAME + factory.suffix
        self.dataset = canonical_name(dataset)
        self.weights = weights or find_weights(NAME, self.dataset, preset)
        self._config: CompositionConfig = read_config(self.weights, NAME, self.dataset, config_from_card, NAME)
        path = beside_or_shipped(self.weights, "structures", STRUCTURES, self.dataset, preset)
        self._structures = factory.structures(self.dataset, preset, steps, path)
        self._starts = None if factory.starts is None else factory.starts(self.dataset, path)
        self._neutral = factory.neutral
        self._known = training_formulas(self.dataset) if factory.new_formulas else None
        self._compositions: CompositionModel | None = None

    def batch_size(self, device: str) -> int:
        """As of the diffusion models."""
        return self._structures.batch_size(device)

    @property
    def card(self) -> dict[str, Any]:
        """The composition model's card, that of the structures' weights, and how both sample."""
        structures = with_start(self._structures.card, self._starts)
        sampling = {**structures.pop("sampling"), "temperature": self._config.temperature}
        if self._known is not None:
            sampling["compositions"] = f"drawn until the training split has no such formula, {MOST_DRAWS} times at most"
        if self._starts is None:
            sampling["volumes"] = "sums of the volumes of the elements"
        if self._neutral:
            sampling["compositions"] = f"drawn until neutral by the usual oxidation states, {MOST_DRAWS} times at most"
        return {**read_card(self.weights), "structures": structures, "sampling": sampling}

    def load(self, device: str = "cpu") -> None:
        """Reads both weights, checks them against their cards and moves them to the device.

        Errors of `Starts.load` where structures do not begin at noise.
        """
        model = CompositionModel(self._config)
        load_into(model, read_weights(self.weights)[0], self.weights)
        self._structures.load(device)
        if self._starts is not None:
            self._starts.load(device)
        self._probabilities = reference_card(self.dataset).num_atoms_probabilities
        self._compositions = model.requires_grad_(False).eval().to(device)

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """That many crystals; a function of (seed, num_crystals, weights, steps, threads, device).

        Evaluations counted are those of the structure network.
        """
        if self._compositions is None:
            self.load("cpu")
        assert self._compositions is not None
        of_compositions, of_structures = np.random.SeedSequence(seed).generate_state(2)
        compositions = self._compositions.sample(
            num_crystals, int(of_compositions), self._probabilities, *self._conditions()
        )
        return self.sample_given(compositions, int(of_structures))

    def _conditions(self) -> tuple[Condition, Condition] | tuple[()]:
        """Which compositions stay, and which replace the others."""
        if self._neutral:
            return is_alloy_or_neutral, is_neutral_and_no_alloy
        if self._known is None:
            return ()
        known = self._known

        def is_new(drawn: IntArray) -> bool:
            return not known.contains(hashes_of([drawn]))[0]

        return is_new, is_new

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        """A crystal for each composition, (N_i,) atomic numbers, by the structure network.

        Its cell is as large as the volumes of its elements say, unless it began at a structure, whose volume says more.
        Order, atoms and errors as of `DiffusionPredictor.sample_given`.
        """
        if self._compositions is None:
            self.load("cpu")
        assert self._compositions is not None
        starts = None if self._starts is None else self._starts(compositions, seed)
        batch = predict_structures(self._structures.model, compositions, seed, self._structures.steps, starts=starts)
        if starts is not None:
            return batch
        volumes = self._compositions.element_volumes.cpu().numpy()
        return replace(batch, crystals=with_added_volumes(batch.crystals, volumes))


composition_first = CompositionFirstFactory("", structures_fast)
"""Composition first: a small network draws the composition, DiffCSP's network predicts its structure in 48 steps."""

composition_first_fast = CompositionFirstFactory("-fast", structures_fast.with_sampler("-fast", steps=16))
"""Composition first in 16 steps of one network evaluation each: the most crystals for the device time."""

composition_first_neutral = CompositionFirstFactory("-neutral", structures_fast, neutral=True)
"""Composition first whose compositions are alloys or charge-neutral by the usual oxidation states."""

composition_first_template = CompositionFirstFactory(
    "-template", structures_from_templates, templates_of_others, new_formulas=True
)
"""Composition first for new formulas, in 8 steps from the nearest training crystal with its elements exchanged."""
