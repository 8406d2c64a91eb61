"""Drafts as starts of DiffCSP's network; `bench models` prints the sentence at the end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.arrays import IntArray
from models.baselines.diffcsp.generator import structures
from models.baselines.diffcsp.predictor import PredictorFactory
from models.baselines.diffcsp.structure_prediction import check_compositions
from models.baselines.structure_controls import Structure
from models.crystal_draft.crystal_draft import CrystalDraft, CrystalDraftConfig, config_from_card
from models.weights import beside_or_shipped, load_into, read_card, read_config, read_weights

NAME = "crystal-draft"


class DraftStarts:
    """Where the prediction of each composition begins: a draft of the transformer.

    structure_weights: beside them, -draft after their name, are the weights of the transformer; or the shipped ones.
    tries: drafts of each, of which the likeliest is taken. ValueError where the weights are missing, of another data
    set or of no such network.
    """

    def __init__(self, dataset: str, structure_weights: Path, tries: int = 1) -> None:
        self.tries = tries
        self.weights = beside_or_shipped(structure_weights, "draft", NAME, dataset)
        self._config: CrystalDraftConfig = read_config(self.weights, NAME, dataset, config_from_card, NAME)
        self._model: CrystalDraft | None = None

    @property
    def card(self) -> dict[str, Any]:
        """The weights' card, and how they draw."""
        return {"drafts": read_card(self.weights), "temperature": self._config.temperature, "tries": self.tries}

    def load(self, device: str = "cpu") -> None:
        """Reads the weights and checks them against their card."""
        model = CrystalDraft(self._config)
        load_into(model, read_weights(self.weights)[0], self.weights)
        self._model = model.requires_grad_(False).eval().to(device)

    def __call__(self, compositions: Sequence[IntArray], seed: int) -> list[Structure | None]:
        """A draft for each composition, (N_i,) atomic numbers; None, which is noise, where it has too many atoms.

        Errors as of `check_compositions`.
        """
        if self._model is None:
            self.load()
        assert self._model is not None
        check_compositions(compositions, self._model.config.network.types)
        starts: list[Structure | None] = [None] * len(compositions)
        most = self._model.config.network.max_atoms
        drafted = [k for k, row in enumerate(compositions) if len(row) <= most]
        batches, places = self._model.crystals([compositions[k] for k in drafted], seed, self.tries)
        for batch, indices in zip(batches, places, strict=True):
            frac_coords, lattices = batch.frac_coords.cpu().numpy(), batch.lattices.cpu().numpy()
            for b, k in enumerate(indices):
                starts[drafted[k]] = frac_coords[b], lattices[b]
        return starts


structures_from_drafts = structures.with_sampler("-draft", steps=8, corrector=False)

diffcsp_csp_draft = PredictorFactory(structures_from_drafts, partial(DraftStarts, tries=4))
"""DiffCSP's network on the likeliest of four drafts of a small transformer: some noise, then 8 steps."""
