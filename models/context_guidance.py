"""Context guidance: atom types that agree with the rest of the crystal, from a network that has half learnt it.

The network tells an atom's type from its own noisy value and from the rest of the crystal. What the value alone tells
is known in closed form (`LoneAtoms`). The step away from it, eps + w (eps - eps_alone), raises what the rest says of a
type to the power 1 + w and leaves the types' frequencies as they are: classifier-free guidance (Ho and Salimans 2022,
arXiv:2207.12598) with the rest of the crystal as the condition, and autoguidance (Karras et al. 2024,
arXiv:2406.02507) whose bad network is one that does not look around. It costs no evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

# (predicted noise, noisy values, product of alphas) -> the noise that the sampler is to follow.
Guide = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Guidance:
    """How much, and when. weight: w above.

    products: the products of alphas (share of signal) between which it acts. With less signal the value alone tells
    nothing and w would magnify the network's errors; with more the type is decided.
    """

    weight: float = 1.0
    products: tuple[float, float] = (0.3, 0.95)

    def acts_at(self, product: float) -> bool:
        """Whether it acts at this share of signal."""
        return self.products[0] <= product <= self.products[1]


@dataclass(frozen=True)
class LoneAtoms:
    """Atoms that know nothing of each other: a type by its frequency, a code by the type, normal noise.

    codes: (K, D), what each type is before noise (one-hot for DiffCSP, a latent for CrysLDM). log_frequencies: (K,).
    variance: of a code about its mean, the same for all types and entries.
    """

    codes: Tensor
    log_frequencies: Tensor
    variance: float = 0.0

    def noise(self, noisy: Tensor, product: float) -> Tensor:
        """Mean noise in sqrt(product) code + sqrt(1 - product) noise, given that value alone.

        noisy: (..., D), and the same shape back.
        """
        total = product * self.variance + 1 - product
        distance = product**0.5 * noisy @ self.codes.T - 0.5 * product * self.codes.square().sum(1)  # (..., K)
        mean_code = (self.log_frequencies + distance / total).softmax(-1) @ self.codes
        shrink = product**0.5 * self.variance / total
        clean = mean_code + shrink * (noisy - product**0.5 * mean_code)
        return (noisy - product**0.5 * clean) / (1 - product) ** 0.5

    def guide(self, guidance: Guidance) -> Guide:
        """What changes the noise (..., D) that a network predicts where the guidance acts, and nowhere else."""

        def guided(eps: Tensor, noisy: Tensor, product: float) -> Tensor:
            if not guidance.acts_at(product):
                return eps
            return eps + guidance.weight * (eps - self.noise(noisy, product))

        return guided
