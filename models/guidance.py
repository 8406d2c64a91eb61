"""Guidance: crystals whose parts agree, from a network that has half learnt it. The sampler steps away from a worse
prediction, out + w (out - worse), while some of the noise is gone but not all.

Context guidance, for types alone: the network tells an atom's type from its own noisy value and from the rest of the
crystal. What the value alone tells is known in closed form (`LoneAtoms`). Stepping away from it raises what the rest
says of a type to the power 1 + w and leaves the types' frequencies as they are: classifier-free guidance (Ho and
Salimans 2022, arXiv:2207.12598) with the rest of the crystal as the condition. It costs no evaluation.

Autoguidance, for types, coordinates and cell: the worse prediction is that of a smaller network that was hardly
trained, which errs in the same direction and further (Karras et al. 2024, arXiv:2406.02507; in part of the steps:
Kynkaanniemi et al. 2024, arXiv:2404.07724). It costs an evaluation of that network a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from models.cspnet import CSPNet, CSPNetOutput
from models.type_posterior import LoneAtoms

# What the network got, in its order: nodes, fractional coordinates, lattices, time features and what else it takes.
Inputs = tuple[Tensor, ...]
# (prediction, what the network got, alpha_bar) -> the prediction that the sampler is to follow.
Guide = Callable[[CSPNetOutput, Inputs, float], CSPNetOutput]


def unguided(out: CSPNetOutput, inputs: Inputs, alpha_bar: float) -> CSPNetOutput:
    """The network's own prediction."""
    return out


@dataclass(frozen=True)
class Guidance:
    """How much, when, and away from what. weight: w above.

    alpha_bar_range: the shares of signal between which it acts. With less signal nothing is known yet and w would
    magnify the network's errors; with more the type is decided.
    """

    weight: float = 1.0
    alpha_bar_range: tuple[float, float] = (0.3, 0.95)
    away_from: Literal["lone atoms", "weak network"] = "lone atoms"

    def acts_at(self, alpha_bar: float) -> bool:
        """Whether it acts at this share of signal."""
        return self.alpha_bar_range[0] <= alpha_bar <= self.alpha_bar_range[1]


def context_guide(alone: LoneAtoms, guidance: Guidance) -> Guide:
    """What changes the nodes' noise that a network predicts where the guidance acts, and nothing else."""

    def guided(out: CSPNetOutput, inputs: Inputs, alpha_bar: float) -> CSPNetOutput:
        if not guidance.acts_at(alpha_bar):
            return out
        return out._replace(node=out.node + guidance.weight * (out.node - alone.noise(inputs[0], alpha_bar)))

    return guided


def weak_guide(weak: CSPNet, guidance: Guidance) -> Guide:
    """What moves all that a network predicts away from a weak network's prediction, where the guidance acts."""

    def guided(out: CSPNetOutput, inputs: Inputs, alpha_bar: float) -> CSPNetOutput:
        if not guidance.acts_at(alpha_bar):
            return out
        pairs = zip(out, weak(*inputs), strict=True)
        return CSPNetOutput(*(ours + guidance.weight * (ours - worse) for ours, worse in pairs))

    return guided


class Guided(Protocol):
    """What guidance needs of a model. weak: the weak network, where the sampler wants one."""

    weak: CSPNet | None

    def lone_atoms(self) -> LoneAtoms:
        """Atoms as they would be without the others."""


def guide_of(model: Guided, guidance: Guidance | None) -> Guide:
    """The guide that a sampler's settings ask for. ValueError where a weak network is asked for and there is none."""
    if guidance is None:
        return unguided
    if guidance.away_from == "lone atoms":
        return context_guide(model.lone_atoms(), guidance)
    if model.weak is None:
        raise ValueError("autoguidance needs a weak network, and this model has none")
    return weak_guide(model.weak, guidance)


def weak_path(weights: Path) -> Path:
    """Where the weak network of a weights file lies: beside it, -weak after its name."""
    return weights.with_name(f"{weights.stem}-weak{weights.suffix}")
