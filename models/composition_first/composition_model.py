"""The composition model as `bench train` sees it: p(composition | N) of a training split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from bench.arrays import FloatArray, IntArray
from bench.interfaces import SampleBatch
from models.composition_first.pairs import atoms_of, electronegativity_order, pairs_of
from models.composition_first.transformer import CompositionTransformer, TransformerConfig
from models.composition_first.volumes import fit_element_volumes
from models.dense import DenseBatch, buckets, require_at_most, unpack
from models.diffusion import Noise, SeededNoise
from models.sampling import drawn_sizes

MOST_DRAWS = 50  # of one composition again, where not any will do
GRID_ANGSTROM = 3.0

Condition = Callable[[IntArray], bool]  # of a composition, (N,) atomic numbers


@dataclass(frozen=True)
class CompositionConfig:
    """Everything a composition model is made from but its weights.

    temperature: of the choice of elements and of their numbers of atoms. Below 1 rare compositions become rarer.
    """

    network: TransformerConfig = field(default_factory=TransformerConfig)
    temperature: float = 0.9


class CompositionModel(nn.Module):
    """p(composition | N).

    order: (types,) atomic numbers by electronegativity. element_volumes: of `fit_element_volumes`, NaN until trained.
    Both are kept with the weights.
    """

    order: Tensor
    element_volumes: Tensor

    def __init__(self, config: CompositionConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CompositionTransformer(config.network)
        self.register_buffer("order", torch.from_numpy(electronegativity_order(config.network.types)))
        self.register_buffer("element_volumes", torch.full((config.network.types,), torch.nan, dtype=torch.float64))

    def trained_part(self, stage: str) -> nn.Module:
        """The transformer, in its only stage."""
        return self.network

    def compiled_parts(self, stage: str) -> list[nn.Module]:
        """None: the layers are small, and their lengths differ from batch to batch."""
        return []

    def stage_input(self, stage: str, crystals: list[DenseBatch]) -> list[DenseBatch]:
        """The crystals as they are. ValueError where one has more atoms than the model can make."""
        require_at_most(self.config.network.max_atoms, crystals)
        return crystals

    def fit_statistics(self, stage: str, train: list[DenseBatch], seed: int) -> None:
        """The elements' volumes; p(N) comes from the data set's reference card."""
        self.element_volumes.copy_(torch.from_numpy(fit_element_volumes(train, len(self.element_volumes))))

    def stage_losses(self, stage: str, batch: DenseBatch, noise: Noise, progress: float) -> dict[str, Tensor]:
        """Nats a crystal: of the elements, of their numbers of atoms, and their sum "loss"."""
        pairs = pairs_of(batch.atomic_numbers, self.order)
        elements, numbers = self.network.log_likelihoods(pairs, noise if self.training else None)
        element, count = -elements.mean(), -numbers.mean()
        return {"loss": element + count, "element": element, "count": count}

    def sample(
        self,
        num_crystals: int,
        seed: int,
        num_atoms_probabilities: FloatArray,
        keeps: Condition | None = None,
        takes: Condition | None = None,
    ) -> list[IntArray]:
        """Compositions, atomic numbers (N_i,) each. num_atoms_probabilities: as of `drawn_sizes`.

        keeps: which compositions stay. Another one is drawn again with as many atoms until `takes`, or `keeps` without
        it, is true of it, MOST_DRAWS times at most; after that the first one stays. So p(N) does not change.
        """
        num_atoms, noise_seed = drawn_sizes(num_atoms_probabilities, num_crystals, seed)
        device = self.order.device
        noise = SeededNoise.from_seed(noise_seed, device)
        sizes = torch.from_numpy(num_atoms).to(device)
        compositions = self._draw(sizes, noise)
        if keeps is not None:
            open_places = [k for k, drawn in enumerate(compositions) if not keeps(drawn)]
            takes = takes or keeps
            for _ in range(MOST_DRAWS):
                if not open_places:
                    break
                again = self._draw(sizes[open_places], noise)
                found = [takes(drawn) for drawn in again]
                for k, drawn, is_good in zip(open_places, again, found, strict=True):
                    compositions[k] = drawn if is_good else compositions[k]
                open_places = [k for k, is_good in zip(open_places, found, strict=True) if not is_good]
        return compositions

    def _draw(self, sizes: Tensor, noise: Noise) -> list[IntArray]:
        return atoms_of(self.network.sample(sizes, noise, self.config.temperature), self.order)

    def sample_in_training(
        self, num_crystals: int, seed: int, max_steps: int, num_atoms_probabilities: FloatArray
    ) -> SampleBatch:
        """Compositions on a cubic grid: of what is scored then, only the composition means anything."""
        compositions = self.sample(num_crystals, seed, num_atoms_probabilities)
        batches, places = [], []
        for n, indices in buckets(np.array([len(numbers) for numbers in compositions], dtype=np.int64)):
            edge = int(np.ceil(n ** (1 / 3)))
            grid = torch.cartesian_prod(*[torch.arange(edge) / edge] * 3)[:n]
            batches.append(
                DenseBatch(
                    torch.from_numpy(np.stack([compositions[k] for k in indices])),
                    grid.expand(len(indices), n, 3),
                    (GRID_ANGSTROM * edge * torch.eye(3)).expand(len(indices), 3, 3),
                )
            )
            places.append(indices)
        crystals = unpack(batches, places).crystals
        return SampleBatch(crystals, None, np.zeros(num_crystals, dtype=np.int64))
