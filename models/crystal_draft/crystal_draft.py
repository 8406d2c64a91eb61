"""The transformer as `bench train` sees it: p(structure | composition) of a training split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.arrays import FloatArray, IntArray
from bench.interfaces import SampleBatch
from models.composition_first.pairs import electronegativity_order, pairs_of, ranks_of
from models.crystal_draft.cell_tokens import NUM_STEPS, NUM_TOKENS, fit_meanings, lattices_of, quantities, tokens_of
from models.crystal_draft.transformer import NUM_PLACES, CrystalTransformer, CrystalTransformerConfig, Draft
from models.dense import DenseBatch, buckets, drawn_compositions, require_at_most, unpack
from models.diffusion import Noise, SeededNoise, torch_seed


@dataclass(frozen=True)
class CrystalDraftConfig:
    """Everything the model is made from but its weights. temperature: of every choice, 1 for p itself."""

    network: CrystalTransformerConfig = field(default_factory=CrystalTransformerConfig)
    temperature: float = 0.4


class CrystalDraft(nn.Module):
    """p(cell | composition) p(places | composition, cell).

    order: (types,) atomic numbers by electronegativity. meanings: of `fit_meanings`, infinite until trained. Both are
    kept with the weights.
    """

    order: Tensor
    meanings: Tensor

    def __init__(self, config: CrystalDraftConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CrystalTransformer(config.network)
        self.register_buffer("order", torch.from_numpy(electronegativity_order(config.network.types)))
        self.register_buffer("meanings", torch.full((NUM_TOKENS, NUM_STEPS), torch.inf, dtype=torch.float64))
        self._seen: list[DenseBatch] = []

    def trained_part(self, stage: str) -> nn.Module:
        """The transformer, in its only stage."""
        return self.network

    def compiled_parts(self, stage: str) -> list[nn.Module]:
        """None: the layers are small, and their lengths differ from batch to batch."""
        return []

    def stage_input(self, stage: str, crystals: list[DenseBatch]) -> list[DenseBatch]:
        """The crystals as they are. ValueError where one has more atoms than the model can make."""
        require_at_most(self.config.network.max_atoms, crystals)
        self._seen = crystals
        return crystals

    def fit_statistics(self, stage: str, train: list[DenseBatch], seed: int) -> None:
        """What the steps of a cell's numbers mean."""
        self.meanings.copy_(fit_meanings(train))

    def stage_losses(self, stage: str, batch: DenseBatch, noise: Noise, progress: float) -> dict[str, Tensor]:
        """Nats: "cell" of a crystal, "place" of an atom, and "loss", of both an atom.

        In training every other crystal is inverted, x to -x: its cell stays, and for all that is measured it is the
        same crystal.
        """
        if self.training:
            inverted = noise.uniform("inversion", (len(batch), 1, 1)) < 0.5
            batch = replace(batch, frac_coords=torch.where(inverted, -batch.frac_coords, batch.frac_coords) % 1.0)
        cells, places = self.network.log_likelihoods(self.encode(batch), self.order, noise if self.training else None)
        cell, place = -cells.sum(1).mean(), -places.sum((1, 2)).mean() / batch.num_atoms
        return {"loss": cell / batch.num_atoms + place, "cell": cell, "place": place}

    def encode(self, batch: DenseBatch) -> Draft:
        """Crystals as the transformer sees them, their atoms in the order of electronegativity and then their own."""
        rows = self._by_electronegativity(batch.atomic_numbers)
        places = batch.frac_coords.gather(1, rows[..., None].expand(-1, -1, 3))
        return Draft(
            pairs_of(batch.atomic_numbers, self.order),
            batch.atomic_numbers.gather(1, rows),
            tokens_of(quantities(batch)),
            (places * NUM_PLACES).round().long() % NUM_PLACES,
        )

    def _by_electronegativity(self, atomic_numbers: Tensor) -> Tensor:
        return ranks_of(atomic_numbers, self.order).argsort(dim=1, stable=True)

    @torch.no_grad()
    def sample(self, atomic_numbers: Tensor, noise: Noise, tries: int = 1) -> DenseBatch:
        """Crystals of these compositions, (B, N), their atoms in this order, in float64.

        tries: drafts of each, of which the likeliest is taken.
        """
        numbers = atomic_numbers.repeat_interleave(tries, dim=0)
        rows = self._by_electronegativity(numbers)
        pairs, elements = pairs_of(numbers, self.order), numbers.gather(1, rows)
        draft = self.network.sample(pairs, elements, self.order, self.meanings, noise, self.config.temperature)
        places = draft.places.to(self.meanings) / NUM_PLACES
        frac_coords = torch.empty_like(places).scatter_(1, rows[..., None].expand(-1, -1, 3), places)
        drafts = DenseBatch(numbers, frac_coords, lattices_of(draft.cells, numbers.shape[1], self.meanings))
        if tries == 1:
            return drafts
        cells, of_places = self.network.log_likelihoods(draft, self.order)
        likelihoods = (cells.sum(1) + of_places.sum((1, 2))).view(-1, tries)
        return drafts.take(likelihoods.argmax(1) + tries * torch.arange(len(atomic_numbers), device=numbers.device))

    def crystals(
        self, compositions: Sequence[IntArray], seed: int, tries: int = 1
    ) -> tuple[list[DenseBatch], list[IntArray]]:
        """A crystal for each composition, (N_i,) atomic numbers, in buckets of equal N, and the places of each bucket.

        tries: as of `sample`. ValueError where one has more atoms than the model can make.
        """
        sizes = np.array([len(row) for row in compositions], dtype=np.int64)
        if len(sizes) and sizes.max() > self.config.network.max_atoms:
            most = self.config.network.max_atoms
            raise ValueError(f"a composition of {sizes.max()} atoms; drafts have at most {most}")
        noise = SeededNoise.from_seed(torch_seed(seed), self.order.device)
        found = [(indices, np.stack([compositions[k] for k in indices])) for _, indices in buckets(sizes)]
        batches = [self.sample(torch.from_numpy(rows).to(self.order.device), noise, tries) for _, rows in found]
        return batches, [indices for indices, _ in found]

    def sample_in_training(
        self, num_crystals: int, seed: int, max_steps: int, num_atoms_probabilities: FloatArray
    ) -> SampleBatch:
        """Drafts for compositions drawn from the crystals that `stage_input` saw last, the validation split."""
        found = unpack(*self.crystals(drawn_compositions(self._seen, num_crystals, seed), seed))
        return SampleBatch(found.crystals, None, np.zeros(num_crystals, dtype=np.int64), dict(found.reasons))


def config_from_card(values: dict[str, Any]) -> CrystalDraftConfig:
    """The configuration written in a weights card."""
    network = CrystalTransformerConfig(**values["network"])
    return CrystalDraftConfig(network=network, temperature=float(values["temperature"]))
