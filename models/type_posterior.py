"""What noisy codes say of atoms' types in closed form, and the output of a network that starts from it.

A type's code is known before noise is added (one-hot for DiffCSP, a latent for CrysLDM). So of each atom alone the
probabilities of its types are known: frequency times likelihood of the noisy code. Context guidance steps away from
them (models/guidance.py). `PosteriorHead` has a network multiply them by what it reads from the rest of the crystal.
No paper has this head; the published ones predict the noise by one linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.diffusion import implied_noise

# Below it the chance that an atom is not of a type counts as zero.
SMALLEST_CHANCE = 1e-6
# Each goes half the way to what the other atoms say. Of 2, 4, 6, 12 and 24 rounds the cross entropy on the validation
# split of MP-20 is least at 6 or 12, within 0.013 nats of each other; with more the atoms are too sure.
URN_ROUNDS = 6
FIRST_URN_WEIGHT = 0.5  # before training


@dataclass(frozen=True)
class LoneAtoms:
    """Atoms that know nothing of each other: a type by its frequency, a code by the type, normal noise.

    codes: (K, D), what each type is before noise. log_frequencies: (K,). variance: of a code about its mean, the same
    for all types and entries.
    """

    codes: Tensor
    log_frequencies: Tensor
    variance: Tensor | float = 0.0

    def type_logits(self, noisy: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """(..., K) log probabilities of the types up to a constant, given a noisy code (..., D) alone.

        alpha_bar: of `add_noise`, a number or broadcastable to `noisy`.
        """
        total = alpha_bar * self.variance + 1 - alpha_bar
        distance = alpha_bar**0.5 * noisy @ self.codes.T - 0.5 * alpha_bar * self.codes.square().sum(1)
        return self.log_frequencies + distance / total

    def noise_given(self, type_logits: Tensor, noisy: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """Mean noise (..., D) in a noisy code of one of the types, which have these log probabilities (..., K)."""
        total = alpha_bar * self.variance + 1 - alpha_bar
        mean_code = type_logits.softmax(-1) @ self.codes
        shrink = alpha_bar**0.5 * self.variance / total
        clean = mean_code + shrink * (noisy - alpha_bar**0.5 * mean_code)
        return implied_noise(noisy, clean, alpha_bar)

    def noise(self, noisy: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """Mean noise in a noisy code, given that value alone. noisy: (..., D), and the same shape back."""
        return self.noise_given(self.type_logits(noisy, alpha_bar), noisy, alpha_bar)


class ClosedForm(NamedTuple):
    """What noisy values say of types, (B, N, K) each: of the atom alone, and the urn's logits where they are used."""

    lone: Tensor
    urn: Tensor | None


def urn_logits(lone_logits: Tensor, log_frequencies: Tensor, urn_atoms: float) -> Tensor:
    """(B, N, K) log of how much likelier each type is for an atom because of what the other atoms probably are.

    lone_logits: (B, N, K), log frequency + log likelihood of each atom's own value. Types are drawn as from a Polya urn
    (Blackwell and MacQueen 1973): each drawn type makes itself likelier, so a crystal has few elements. The chance of
    each atom's type is found by rounds in which it believes the other atoms' chances (mean field). urn_atoms: how many
    atoms the frequencies count for.
    """
    others = lone_logits.shape[1] - 1
    if others == 0:
        return torch.zeros_like(lone_logits)
    frequencies, likelihood = log_frequencies.exp(), lone_logits - log_frequencies
    chances = lone_logits.softmax(-1)

    def log_prior() -> Tensor:
        counts = chances.sum(1, keepdim=True) - chances
        return ((urn_atoms * frequencies + counts) / (urn_atoms + others)).clamp_min(SMALLEST_CHANCE**2).log()

    for _ in range(URN_ROUNDS):
        chances = (chances + (likelihood + log_prior()).softmax(-1)) / 2
    return log_prior() - log_frequencies


class PosteriorHead(nn.Module):
    """Logits of types on top of the closed form, and the closed form among a network's inputs; zero at first.

    What the features say of a type is added to what the atom's value says of it: log frequency + log likelihood +
    logits. The buffers are those of `LoneAtoms`, set by `fit`; until then all that comes out is NaN.
    urn_atoms: with them `urn_logits` are an input too, and are added with a weight that features give.
    """

    codes: Tensor
    log_frequencies: Tensor
    variance: Tensor

    def __init__(self, num_types: int, node_dim: int, hidden_dim: int, urn_atoms: float | None = None) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(num_types, node_dim))
        self.register_buffer("log_frequencies", torch.zeros(num_types))
        self.register_buffer("variance", torch.full((), torch.nan))
        self.types_in = nn.Linear(3 * num_types, hidden_dim, bias=False)
        self.types_out = nn.Linear(hidden_dim, num_types)
        self.urn_atoms = urn_atoms
        self.urn_in = None if urn_atoms is None else nn.Linear(num_types, hidden_dim, bias=False)
        self.urn_weight = None if urn_atoms is None else nn.Linear(hidden_dim, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        if self.urn_weight is not None:
            nn.init.constant_(self.urn_weight.bias, FIRST_URN_WEIGHT)

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called, now or before the weights were stored."""
        return bool(self.variance.isfinite())

    @torch.no_grad()
    def fit(self, counts: Tensor, codes: Tensor, variance: Tensor | float) -> None:
        """Sets the closed form. counts: (K,) atoms of each type in the training data; others as of `LoneAtoms`.

        Half an atom is added to each count: the logits can deny a type that the data does not have.
        """
        self.log_frequencies.copy_(((counts + 0.5) / (counts + 0.5).sum()).log())
        self.codes.copy_(codes)
        self.variance.copy_(torch.as_tensor(variance))

    def lone_atoms(self) -> LoneAtoms:
        """The closed form."""
        return LoneAtoms(self.codes, self.log_frequencies, self.variance)

    def closed_form(self, nodes: Tensor, alpha_bar: Tensor) -> ClosedForm:
        """What noisy values (B, N, D) say of types before the network is asked. alpha_bar: (B,)."""
        with torch.autocast(nodes.device.type, enabled=False):  # likelihoods need more digits than bfloat16 has
            lone = self.lone_atoms().type_logits(nodes.to(self.codes.dtype), alpha_bar[:, None, None])
            if self.urn_atoms is None:
                return ClosedForm(lone, None)
            return ClosedForm(lone, urn_logits(lone, self.log_frequencies, self.urn_atoms))

    def embedded(self, closed: ClosedForm) -> Tensor:
        """(B, N, H) what is added to the atoms' features at first.

        Of each type: the atom's probability, the chance that another atom is of it, the share of the other atoms, and
        the urn's logit.
        """
        own = closed.lone.softmax(-1)
        log_not = (1 - own).clamp_min(SMALLEST_CHANCE).log()
        some_other = 1 - (log_not.sum(1, keepdim=True) - log_not).exp()
        share = (own.sum(1, keepdim=True) - own) / max(1, own.shape[1] - 1)
        embedded: Tensor = self.types_in(torch.cat([own, some_other, share], dim=-1))
        return embedded if self.urn_in is None else embedded + self.urn_in(closed.urn)

    def forward(self, features: Tensor, closed: ClosedForm, nodes: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, K) log probabilities of types up to a constant, and the noise (B, N, D) that they imply.

        features: (B, N, H), at the network's end. closed: of `closed_form`. nodes, alpha_bar: as there.
        """
        logits = closed.lone + self.types_out(features)
        if self.urn_weight is not None:
            logits = logits + self.urn_weight(features) * closed.urn
        with torch.autocast(nodes.device.type, enabled=False):
            logits = logits.to(self.codes.dtype)
            noisy = nodes.to(self.codes.dtype)
            return logits, self.lone_atoms().noise_given(logits, noisy, alpha_bar[:, None, None])


def type_cross_entropy(logits: Tensor, types: Tensor) -> Tensor:
    """Mean over atoms of -log p(type). logits: (B, N, K). types: (B, N), 0 .. K - 1."""
    return F.cross_entropy(logits.flatten(0, 1), types.flatten())
