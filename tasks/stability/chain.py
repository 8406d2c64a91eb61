"""Chains of potentials: a cheap one relaxes, the next goes on from there, and the last gives the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import Crystals
from tasks.stability.hull import Hull, energies_above
from tasks.stability.potentials import Potential, potential_protocol
from tasks.stability.potentials.files import is_matgl_folder
from tasks.stability.relaxation import RelaxationSettings, Relaxed, relax

# eV/atom. A crystal that a potential leaves farther above its own hull is not handed on: the judge would not call it
# stable. docs/stability.md says what this loses, measured on crystals with DFT labels.
SCREEN_ABOVE = 0.25
# eV/A. From the geometry of another potential most of a judge's steps change its energy by less than its error: the
# same page has the agreement with DFT by this number.
JUDGE_FMAX = 0.05


def chain_names(text: str) -> tuple[str, ...]:
    """The potentials of "first+judge", names or paths, in order. ValueError for an empty part or one that recurs."""
    if is_matgl_folder(Path(text)):  # whatever is in its name
        return (text,)
    names = tuple(part.strip() for part in text.split("+"))
    if not all(names):
        raise ValueError(f"--potential {text}: write a chain as first+judge, such as chgnet+sevennet-l3i5")
    if len(set(names)) < len(names):
        raise ValueError(f"--potential {text}: a potential stands twice in the chain")
    return names


def chain_label(text: str) -> str:
    """The chain's name in tables: paths by their last part."""
    return "+".join(Path(name).name for name in chain_names(text))


def chain_protocol(text: str) -> dict[str, Any]:
    """What a chain's energies depend on, as plain JSON; of a potential alone, what `potential_protocol` says."""
    names = chain_names(text)
    if len(names) == 1:
        return potential_protocol(names[0])
    return {"name": chain_label(text), "chain": [potential_protocol(name) for name in names]}


@dataclass(frozen=True)
class Stage:
    """A potential of a chain, and the hull of its own energies; without one, every crystal is handed on."""

    potential: Potential
    hull: Hull | None


@dataclass(frozen=True)
class Verdict:
    """What a chain says of one crystal.

    relaxed: as the last potential that saw it left it, with the steps of all. above: eV/atom above that one's hull, or
    why there is none. potential: its name.
    """

    relaxed: Relaxed
    above: float | str
    potential: str


def stage_settings(settings: RelaxationSettings, number: int) -> RelaxationSettings:
    """Those of a potential by its place in the chain: after the first one a relaxation may end sooner."""
    return settings if number == 0 else replace(settings, fmax=max(settings.fmax, JUDGE_FMAX))


def judge(crystals: Crystals, stages: Sequence[Stage], settings: RelaxationSettings) -> list[Verdict]:
    """Every crystal through the chain, in order. The last potential must know all elements and have a hull.

    The verdict is that of the first potential that fails to relax a crystal or leaves it more than SCREEN_ABOVE above
    its hull, else that of the last. A crystal with an element that an earlier potential does not know passes it by.
    """
    verdicts: dict[int, Verdict] = {}
    steps = np.zeros(len(crystals), dtype=np.int64)
    waiting = {b: crystals[b] for b in range(len(crystals))}
    for number, stage in enumerate(stages):
        last = number == len(stages) - 1
        own = [b for b, crystal in waiting.items() if last or _knows(stage.potential, crystal)]
        given = Crystals.concatenate([waiting[b] for b in own])
        outcomes = relax(given, stage.potential, stage_settings(settings, number))
        for b, outcome, above in zip(own, outcomes, _above(stage.hull, given, outcomes), strict=True):
            steps[b] += outcome.steps
            if last or not np.isfinite(outcome.fmax) or (isinstance(above, float) and above > SCREEN_ABOVE):
                verdicts[b] = Verdict(replace(outcome, steps=int(steps[b])), above, stage.potential.name)
                del waiting[b]
            else:
                start = waiting[b]
                waiting[b] = Crystals(start.num_atoms, start.atomic_numbers, outcome.frac_coords, outcome.lattice[None])
    return [verdicts[b] for b in range(len(crystals))]


def _knows(potential: Potential, crystal: Crystals) -> bool:
    return bool(np.isin(crystal.atomic_numbers, sorted(potential.elements)).all())


def _above(hull: Hull | None, crystals: Crystals, outcomes: Sequence[Relaxed]) -> list[float | str]:
    if hull is None:
        return ["there is no hull of it"] * len(crystals)
    energies: FloatArray = np.array([outcome.energy for outcome in outcomes]) / crystals.num_atoms
    return energies_above(hull, crystals, energies)
