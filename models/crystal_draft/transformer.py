"""A small transformer that drafts a crystal of a composition: its cell, then its atoms, one after the other."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.composition_first.pairs import Pairs
from models.composition_first.transformer import Layer, drawn
from models.crystal_draft.cell_tokens import NUM_STEPS, NUM_TOKENS, possible
from models.diffusion import Noise

BLOCKS = "spdf"
NUM_PLACES = 96  # steps of a fractional coordinate: halves, thirds, quarters, sixths, eighths and twelfths among them
WAVES = 12  # of a coordinate, told beside its step: places that are near, or mirror images, look alike


@dataclass(frozen=True)
class CrystalTransformerConfig:
    """Sizes of the transformer. types: elements. max_atoms: the largest N. dropout: of each layer's two updates."""

    hidden_dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    types: int = 100
    max_atoms: int = 20
    dropout: float = 0.2


@lru_cache(maxsize=4)
def element_properties(types: int) -> Tensor:
    """(types, 9) of the elements 1 .. types, each to zero mean and unit variance: electronegativity, row, group,
    Mendeleev number, radius and block. So elements that the training data hardly have are like their neighbours.
    """
    from pymatgen.core import Element

    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity
        for z in range(1, types + 1):
            element = Element.from_Z(z)
            known = element.X, element.row, element.group, element.mendeleev_no, element.atomic_radius
            numbers = [math.nan if value is None else float(value) for value in known]
            rows.append([*numbers, *(float(element.block == block) for block in BLOCKS)])
    values = torch.tensor(rows, dtype=torch.float64)
    values = torch.where(values.isnan(), values.nanmean(0), values)
    return ((values - values.mean(0)) / values.std(0)).float()


class Draft(NamedTuple):
    """Crystals of one size as whole numbers.

    pairs: their compositions. elements: (B, N) atomic numbers, in the order of the pairs. cells: (B, 6) of
    `cell_tokens`. places: (B, N, 3) steps of the fractional coordinates, 0 .. NUM_PLACES - 1.
    """

    pairs: Pairs
    elements: Tensor
    cells: Tensor
    places: Tensor


class CrystalTransformer(nn.Module):
    """Logits of a crystal's next number, given the composition and the numbers before it.

    A sequence has the composition's pairs (element, number of its atoms), which see one another; then the six numbers
    of the cell; then the atoms, each told its element. Those see the pairs and what is before them.
    """

    properties: Tensor
    waves: Tensor

    def __init__(self, config: CrystalTransformerConfig) -> None:
        super().__init__()
        self.config = config
        hidden, sizes = config.hidden_dim, config.max_atoms + 1
        self.register_buffer("properties", element_properties(config.types), persistent=False)
        angles = 2 * math.pi * torch.arange(NUM_PLACES)[:, None] / NUM_PLACES * torch.arange(1, WAVES + 1)
        self.register_buffer("waves", torch.cat([angles.sin(), angles.cos()], dim=1), persistent=False)
        self.element_embedding = nn.Embedding(config.types, hidden)
        self.property_embedding = nn.Linear(self.properties.shape[1], hidden)
        self.count_embedding = nn.Embedding(sizes, hidden)
        self.share_embedding = nn.Linear(1, hidden)
        self.num_atoms_embedding = nn.Embedding(sizes, hidden)
        self.position_embedding = nn.Embedding(NUM_TOKENS + config.max_atoms, hidden)
        self.cell_embedding = nn.Embedding(NUM_TOKENS * NUM_STEPS, hidden)
        self.place_embedding = nn.ModuleList(nn.Embedding(NUM_PLACES, hidden) for _ in range(3))
        self.wave_embedding = nn.ModuleList(nn.Linear(2 * WAVES, hidden, bias=False) for _ in range(3))
        self.atom_in = nn.Linear(2 * hidden, hidden)
        self.layers = nn.ModuleList(Layer(hidden, config.num_heads, config.dropout) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(hidden)
        self.cell_out = nn.ModuleList(nn.Linear(hidden, NUM_STEPS) for _ in range(NUM_TOKENS))
        self.place_hidden = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3))
        self.place_out = nn.ModuleList(nn.Linear(hidden, NUM_PLACES) for _ in range(3))
        for embedding in (module for module in self.modules() if isinstance(module, nn.Embedding)):
            nn.init.normal_(embedding.weight, std=0.1)

    def forward(self, draft: Draft, order: Tensor, noise: Noise | None = None) -> Tensor:
        """Features (B, T, H), one for each number of the cell and each atom that is written, and for the next one.

        Each knows the composition, what comes before it and, of an atom, its element. T: 6 + N at most. order: (types,)
        atomic numbers by rank. noise: of the dropout.
        """
        pairs = draft.pairs
        composition, crystal = self._composition(pairs, order), self._written(draft)
        crystal = crystal + self.position_embedding.weight[: crystal.shape[1]]
        features = torch.cat([composition, crystal], dim=1) + self.num_atoms_embedding(pairs.num_atoms)[:, None]
        seen_by = self._seen_by(pairs.counts > 0, crystal.shape[1])
        for layer in self.layers:
            features = layer(features, noise, seen_by)
        result: Tensor = self.norm(features[:, composition.shape[1] :])
        return result

    def _composition(self, pairs: Pairs, order: Tensor) -> Tensor:
        """(B, K, H) of the pairs."""
        shares = pairs.counts / pairs.num_atoms[:, None]
        embedded = self._element(order[pairs.ranks]) + self.count_embedding(pairs.counts)
        result: Tensor = embedded + self.share_embedding(shares[..., None].to(embedded))
        return result

    def _written(self, draft: Draft) -> Tensor:
        """(B, T, H): what was written just before each number of the cell and each atom, with the atom's element."""
        cells, places = draft.cells, draft.places
        numbers = torch.arange(cells.shape[1], device=cells.device)
        of_cell = F.pad(self.cell_embedding(cells + NUM_STEPS * numbers), (0, 0, 1, 0))
        if cells.shape[1] < NUM_TOKENS:
            return of_cell
        elements = self._element(draft.elements[:, : places.shape[1] + 1])
        atoms_before = self.coordinates(places) + elements[:, : places.shape[1]]
        atoms_before = F.pad(atoms_before, (0, 0, 1, 0))[:, : elements.shape[1]]
        atoms = self.atom_in(torch.cat([atoms_before, elements], dim=-1))
        # Before the first atom comes the last number of the cell.
        first = atoms[:, :1] + of_cell[:, -1:]
        return torch.cat([of_cell[:, :-1], first, atoms[:, 1:]], dim=1)

    def _element(self, atomic_numbers: Tensor) -> Tensor:
        embedded: Tensor = self.element_embedding(atomic_numbers - 1)
        return embedded + self.property_embedding(self.properties[atomic_numbers - 1])

    def coordinates(self, places: Tensor) -> Tensor:
        """(..., H) of the first coordinates of an atom, places (..., 1 to 3)."""
        parts = [self._coordinate(k, places[..., k]) for k in range(places.shape[-1])]
        return torch.stack(parts).sum(0)

    def _coordinate(self, axis: int, places: Tensor) -> Tensor:
        embedded: Tensor = self.place_embedding[axis](places) + self.wave_embedding[axis](self.waves[places])
        return embedded

    @staticmethod
    def _seen_by(exists: Tensor, others: int) -> Tensor:
        """(B, 1, K + others, K + others). exists: (B, K), whether there is such a pair."""
        batch, num_pairs = exists.shape
        of_pairs = exists[:, None].expand(batch, num_pairs + others, num_pairs)
        before = torch.ones(others, others, dtype=torch.bool, device=exists.device).tril()
        of_others = F.pad(before, (0, 0, num_pairs, 0)).expand(batch, -1, -1)
        return torch.cat([of_pairs, of_others], dim=2)[:, None]

    def place_logits(self, features: Tensor, known: Tensor) -> Tensor:
        """(..., NUM_PLACES) of an atom's next coordinate. features: (..., H). known: (..., 0 to 2) those it has."""
        axis = known.shape[-1]
        if axis:
            features = features + self.coordinates(known)
        logits: Tensor = self.place_out[axis](F.gelu(self.place_hidden[axis](features)))
        return logits

    def log_likelihoods(self, draft: Draft, order: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Log p of each number of the cells, (B, 6), and of the atoms' coordinates, (B, N, 3), in nats."""
        features = self(draft, order, noise)
        of_cells = torch.stack([out(features[:, k]) for k, out in enumerate(self.cell_out)], dim=1)
        cells = of_cells.log_softmax(-1).gather(-1, draft.cells[..., None])[..., 0]
        atoms = features[:, NUM_TOKENS:]
        of_places = torch.stack([self.place_logits(atoms, draft.places[..., :axis]) for axis in range(3)], dim=2)
        places = of_places.log_softmax(-1).gather(-1, draft.places[..., None])[..., 0]
        return cells, places

    @torch.no_grad()
    def sample(
        self,
        pairs: Pairs,
        elements: Tensor,
        order: Tensor,
        meanings: Tensor,
        noise: Noise,
        temperature: float,
    ) -> Draft:
        """Crystals of these compositions. elements: (B, N) atomic numbers in the order of the pairs. meanings: as of
        `fit_meanings`. temperature: of every choice, 1 for p.
        """
        batch, num_atoms = elements.shape
        draft = Draft(pairs, elements, elements.new_zeros(batch, 0), elements.new_zeros(batch, 0, 3))
        for out in self.cell_out:
            logits = out(self(draft, order)[:, -1]).masked_fill(~possible(draft.cells, meanings), -torch.inf)
            chosen = drawn(logits, noise, temperature)
            draft = draft._replace(cells=torch.cat([draft.cells, chosen[:, None]], dim=1))
        for _ in range(num_atoms):
            features = self(draft, order)[:, -1]
            place = elements.new_zeros(batch, 0)
            for _ in range(3):
                logits = self.place_logits(features, place)
                if place.shape[1] == 2:
                    logits = logits.masked_fill(_taken(draft.places, place), -torch.inf)
                place = torch.cat([place, drawn(logits, noise, temperature)[:, None]], dim=1)
            draft = draft._replace(places=torch.cat([draft.places, place[:, None]], dim=1))
        return draft


def _taken(places: Tensor, start: Tensor) -> Tensor:
    """(B, NUM_PLACES) the last coordinates that would put an atom where another one is.

    places: (B, A, 3) of the atoms there are. start: (B, 2) of the new one.
    """
    in_line = (places[..., :2] == start[:, None]).all(-1)
    found = places.new_zeros(len(places), NUM_PLACES).scatter_add_(1, places[..., 2], in_line.long())
    return found > 0
