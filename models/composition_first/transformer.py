"""A small causal transformer over the pairs of a composition: p(element, number of atoms | the pairs before, N)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.composition_first.pairs import Pairs
from models.diffusion import Noise


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the transformer. max_atoms: the largest N. dropout: of each layer's two updates."""

    hidden_dim: int = 128
    num_layers: int = 3
    num_heads: int = 4
    types: int = 100
    max_atoms: int = 20
    dropout: float = 0.1


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each normalised before and added after."""

    def __init__(self, hidden: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.mlp_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention_in, self.attention_out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.mlp_in, self.mlp_out = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, features: Tensor, noise: Noise | None, seen_by: Tensor | None = None) -> Tensor:
        """features: (B, K, H), and the same shape back. noise: of the dropout in training, None without.

        seen_by: (B, 1, K, K), whether a place sees another; each sees itself and those before it where not given.
        """
        batch, length, hidden = features.shape
        heads = self.attention_in(self.attention_norm(features)).view(batch, length, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, heads, K, H / heads) each
        seen = F.scaled_dot_product_attention(query, key, value, seen_by, is_causal=seen_by is None)
        seen = self.attention_out(seen.transpose(1, 2).reshape(batch, length, hidden))
        features = features + self._dropped(seen, noise)
        return features + self._dropped(self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(features)))), noise)

    def _dropped(self, update: Tensor, noise: Noise | None) -> Tensor:
        # Not torch's own dropout, which draws from the global generator.
        if noise is None or self.dropout == 0:
            return update
        return update * (noise.uniform("dropout", tuple(update.shape)) >= self.dropout) / (1 - self.dropout)


class CompositionTransformer(nn.Module):
    """Logits of the next element and, given it, of the number of its atoms; what cannot be has none.

    Elements come in ascending rank, numbers of atoms are at most what is left, and the last element takes all of it.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        hidden, sizes = config.hidden_dim, config.max_atoms + 1
        self.element_embedding = nn.Embedding(config.types, hidden)
        self.count_embedding = nn.Embedding(sizes, hidden)
        self.left_embedding = nn.Embedding(sizes, hidden)
        self.num_atoms_embedding = nn.Embedding(sizes, hidden)
        self.layers = nn.ModuleList(Layer(hidden, config.num_heads, config.dropout) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(hidden)
        self.element_out = nn.Linear(hidden, config.types)
        self.chosen_embedding = nn.Embedding(config.types, hidden)
        self.count_hidden = nn.Linear(2 * hidden, hidden)
        self.count_out = nn.Linear(hidden, config.max_atoms)
        for embedding in (module for module in self.modules() if isinstance(module, nn.Embedding)):
            nn.init.normal_(embedding.weight, std=0.1)

    def forward(self, pairs: Pairs, noise: Noise | None = None) -> Tensor:
        """Features (B, K + 1, H): the k-th knows the first k pairs, what is left, and N. noise: of the dropout."""
        left = torch.cat([torch.zeros_like(pairs.num_atoms)[:, None], pairs.counts.cumsum(1)], dim=1)
        left = pairs.num_atoms[:, None] - left  # (B, K + 1)
        features = self.element_embedding(pairs.ranks) + self.count_embedding(pairs.counts)
        features = F.pad(features, (0, 0, 1, 0)) + self.left_embedding(left)
        features = features + self.num_atoms_embedding(pairs.num_atoms)[:, None]
        for layer in self.layers:
            features = layer(features, noise)
        result: Tensor = self.norm(features)
        return result

    def element_logits(self, features: Tensor, last_ranks: Tensor) -> Tensor:
        """(..., types) by rank. features: (..., H). last_ranks: (...) of the element before, -1 for none."""
        ranks = torch.arange(self.config.types, device=features.device)
        logits: Tensor = self.element_out(features)
        return logits.masked_fill(ranks <= last_ranks[..., None], -torch.inf)

    def count_logits(self, features: Tensor, ranks: Tensor, left: Tensor) -> Tensor:
        """(..., max_atoms), of 1 atom to all. features: (..., H). ranks: (...) of the element. left: (...), >= 1."""
        joined = torch.cat([features, self.chosen_embedding(ranks)], dim=-1)
        logits: Tensor = self.count_out(F.gelu(self.count_hidden(joined)))
        counts = torch.arange(1, self.config.max_atoms + 1, device=features.device)
        fewest = torch.where(ranks == self.config.types - 1, left, 1)
        return logits.masked_fill((counts < fewest[..., None]) | (counts > left[..., None]), -torch.inf)

    def log_likelihoods(self, pairs: Pairs, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Log p of each composition's elements and of their numbers of atoms, (B,) each, in nats."""
        features = self(Pairs(pairs.ranks[:, :-1], pairs.counts[:, :-1], pairs.num_atoms), noise)  # (B, K, H)
        exists = pairs.counts > 0
        before = F.pad(pairs.ranks[:, :-1], (1, 0), value=-1)
        left = pairs.num_atoms[:, None] - pairs.counts.cumsum(1) + pairs.counts
        # Padding gets what is possible, so that no gradient of it is NaN, and counts for nothing.
        before, left = before.where(exists, -1), left.where(exists, self.config.max_atoms)
        ranks, counts = pairs.ranks.where(exists, 0), pairs.counts.where(exists, 1)
        elements = self.element_logits(features, before).log_softmax(-1)
        numbers = self.count_logits(features, ranks, left).log_softmax(-1)
        of_elements = elements.gather(-1, ranks[..., None])[..., 0].where(exists, 0.0)
        of_numbers = numbers.gather(-1, counts[..., None] - 1)[..., 0].where(exists, 0.0)
        return of_elements.sum(1), of_numbers.sum(1)

    @torch.no_grad()
    def sample(self, num_atoms: Tensor, noise: Noise, temperature: float) -> Pairs:
        """Compositions of these numbers of atoms, (B,) in 1 to max_atoms. temperature: of both choices, 1 for p."""
        batch = len(num_atoms)
        pairs = Pairs(num_atoms.new_zeros(batch, 0), num_atoms.new_zeros(batch, 0), num_atoms)
        last, left = torch.full_like(num_atoms, -1), num_atoms
        while (left > 0).any():
            open_ = left > 0
            features = self(pairs)[:, -1]
            ranks = drawn(self.element_logits(features, last.where(open_, -1)), noise, temperature)
            counts = drawn(self.count_logits(features, ranks, left.clamp_min(1)), noise, temperature) + 1
            ranks, counts = ranks.where(open_, last), counts.where(open_, 0)
            pairs = Pairs(
                torch.cat([pairs.ranks, ranks[:, None]], dim=1),
                torch.cat([pairs.counts, counts[:, None]], dim=1),
                num_atoms,
            )
            last, left = ranks, left - counts
        return pairs


def drawn(logits: Tensor, noise: Noise, temperature: float) -> Tensor:
    """A choice for each row of logits (B, C), (B,), by the largest of logits with Gumbel noise."""
    uniform = noise.uniform("choice", tuple(logits.shape)).clamp(1e-9, 1 - 1e-6)
    return (logits / temperature - (-uniform.log()).log()).argmax(-1)
