"""Relaxation of positions and cells, many crystals in flight: one that is done leaves the batch, a waiting one enters.

What is minimised, and when it counts as done, is as with ASE's FrechetCellFilter: the variables are the positions in
the undeformed cell and the logarithm of the deformation, and a crystal is converged when no atom's force and no row of
volume times stress over the number of atoms is longer than fmax, at the geometry whose energy is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import Crystals
from tasks.closest_pair import closest_pairs, reduce_lattices, shortest_translations
from tasks.stability.isolation import cutoff_of, isolation
from tasks.stability.minimiser import Minimiser
from tasks.stability.potentials import Evaluation, Potential
from tasks.stability.potentials.neighbours import expected_edges

MAX_LENGTH = 500.0  # A, of a reduced cell: the list of neighbours divides a box around it into small cubes
EARLIEST_COLLAPSE = 40  # steps: atoms that overlap after so many have found a spurious basin and will not part
WITHOUT_FORCES = "the potential gives its energy without forces"
TYPICAL_EDGES = 60  # of an atom within 5 to 6 A; a denser crystal takes the place of more atoms in a batch


@dataclass(frozen=True)
class RelaxationSettings:
    """fmax: eV/A; at the usual 0.05, soft crystals end up to 10 meV/atom above their minimum, at 0.02 nearly none does.
    max_steps: evaluations after the first.

    The guards: a crystal with less volume per atom (A^3) at the start than start_volume is not relaxed at all; one is
    set aside whose volume changes by more than volume_factor either way or leaves the range of volumes per atom, or
    whose atoms or their images end up nearer than min_distance (A): potentials have deep basins there.
    """

    fmax: float = 0.02
    max_steps: int = 300
    start_volume: float = 1.0
    volume_factor: float = 5.0
    min_volume: float = 2.5
    max_volume: float = 500.0
    min_distance: float = 0.5

    def protocol(self) -> dict[str, Any]:
        """As plain JSON, with the filter and the minimiser."""
        return {"filter": "FrechetCellFilter", "minimiser": "L-BFGS with a trust radius", **asdict(self)}


@dataclass(frozen=True)
class Relaxed:
    """What became of one crystal.

    energy: eV per cell, at the relaxed geometry; where there is none (`reason` and not relaxed), of a sane geometry
    near the given one. frac_coords: (N, 3), lattice: (3, 3) A, of that energy. steps: evaluations after the first.
    fmax: eV/A, largest force there, infinite where it is unknown. reason: why it is not converged, None where it is.
    """

    energy: float
    frac_coords: FloatArray
    lattice: FloatArray
    converged: bool
    steps: int
    fmax: float
    reason: str | None


def relax(
    crystals: Crystals,
    potential: Potential,
    settings: RelaxationSettings | None = None,
    on_done: Callable[[int, Relaxed], None] | None = None,
) -> list[Relaxed]:
    """Every crystal relaxed, in order. Identical ones are relaxed once.

    on_done is called with (place, outcome) as soon as one is done. ValueError where the potential does not know an
    element; everything else that goes wrong with a crystal is its reason and touches no other.
    """
    settings = settings or RelaxationSettings()
    results: dict[int, Relaxed] = {}
    places: dict[bytes, list[int]] = {}
    for b in range(len(crystals)):
        places.setdefault(_key(crystals, b), []).append(b)
    firsts = [same[0] for same in places.values()]
    others = {same[0]: same[1:] for same in places.values()}
    for b, outcome in _relax_different(crystals, firsts, potential, settings):
        for place in (b, *others[b]):
            results[place] = outcome
            if on_done is not None:
                on_done(place, outcome)
    return [results[b] for b in range(len(crystals))]


def _key(crystals: Crystals, b: int) -> bytes:
    numbers, coords, lattice = crystals.arrays(b)
    return numbers.tobytes() + coords.tobytes() + lattice.tobytes()


def _relax_different(
    crystals: Crystals, chosen: Sequence[int], potential: Potential, settings: RelaxationSettings
) -> Iterator[tuple[int, Relaxed]]:
    # Large ones first: at the end, small ones fill the batch.
    waiting = deque(sorted(chosen, key=lambda b: -int(crystals.num_atoms[b])))
    active: list[Flight] = []
    cutoff = cutoff_of(potential)
    while waiting or active:
        room = potential.batch_atoms - sum(flight.weight for flight in active)
        while waiting and (not active or crystals.num_atoms[waiting[0]] <= room):
            b = waiting.popleft()
            start = reduced(crystals[b])
            fault = start_fault(start, settings)
            if fault is not None:
                yield b, unrelaxed(crystals[b], potential, fault)
                continue
            fault = isolation(start, cutoff)
            if fault is not None:
                yield b, _as_given(start, potential, fault)
                continue
            flight = Flight(b, start, settings, cutoff)
            active.append(flight)
            room -= flight.weight
        evaluations = evaluate_apart(potential, [flight.crystal for flight in active])
        still: list[Flight] = []
        for flight, evaluation in zip(active, evaluations, strict=True):
            outcome = flight.advance(evaluation)
            if outcome is None:
                still.append(flight)
            elif isinstance(outcome, str):
                yield flight.place, flight.fallback(potential, outcome)
            else:
                yield flight.place, outcome
        active = still


def _as_given(crystal: Crystals, potential: Potential, reason: str) -> Relaxed:
    """A crystal that is not to be relaxed, with its energy where the potential gives one."""
    found = evaluate_apart(potential, [crystal], derivatives=False)[0]
    if isinstance(found, str) or not np.isfinite(found.energies[0]):
        return unrelaxed(crystal, potential, reason)
    return Relaxed(float(found.energies[0]), crystal.frac_coords, crystal.lattices[0], False, 0, np.inf, reason)


def reduced(crystal: Crystals) -> Crystals:
    """The same crystal in a Minkowski-reduced cell: in a skewed one, neighbours lie behind many images."""
    bases, to_reduced = reduce_lattices(crystal.lattices)
    return Crystals(crystal.num_atoms, crystal.atomic_numbers, crystal.frac_coords @ to_reduced[0], bases)


def start_fault(crystal: Crystals, settings: RelaxationSettings) -> str | None:
    """Why a crystal, in a reduced cell, is not to be evaluated at all: it would take all memory."""
    volume = crystal.volumes[0] / crystal.num_atoms[0]
    if volume < settings.start_volume:
        return f"over-dense: {volume:.2g} A^3 per atom"
    if not volume <= settings.max_volume:
        return f"it has {volume:.3g} A^3 per atom"
    lengths = np.linalg.norm(crystal.lattices[0], axis=1)
    if not lengths.min() >= settings.min_distance:
        return f"an atom is {lengths.min():.2g} A from its own image"
    if not lengths.max() <= MAX_LENGTH:
        return f"its cell is {lengths.max():.3g} A long"
    return None


def evaluate_apart(
    potential: Potential, crystals: Sequence[Crystals], derivatives: bool = True
) -> list[Evaluation | str]:
    """One evaluation for each crystal, or why there is none; all in one batch, one by one where that fails."""
    if not crystals:
        return []
    batch = Crystals.concatenate(crystals)
    try:
        found = potential.evaluate(batch, derivatives)
    except (ValueError, RuntimeError, MemoryError) as error:  # too dense, or too large for the memory
        if len(crystals) == 1:
            return [f"cannot be evaluated: {' '.join(str(error).split())[:200]}"]
        return [evaluation for crystal in crystals for evaluation in evaluate_apart(potential, [crystal], derivatives)]
    if derivatives and (found.forces.shape != batch.frac_coords.shape or found.stresses.shape != batch.lattices.shape):
        return [WITHOUT_FORCES] * len(crystals)
    return [
        Evaluation(
            found.energies[b : b + 1],
            found.forces[batch.offsets[b] : batch.offsets[b + 1]],
            found.stresses[b : b + 1],
        )
        for b in range(len(batch))
    ]


class Flight:
    """One crystal on its way. place: among those asked for. crystal: the geometry to be evaluated next.

    cutoff: A, the potential's range; an atom without a neighbour in it feels nothing.
    """

    def __init__(self, place: int, start: Crystals, settings: RelaxationSettings, cutoff: float) -> None:
        self.place, self.start, self.crystal, self.settings, self.cutoff = place, start, start, settings, cutoff
        self.num_atoms = int(start.num_atoms[0])
        self.frac_coords, self.lattice = start.frac_coords, start.lattices[0]
        self.log_deformation = np.zeros((3, 3))
        self.deformation = np.eye(3)
        self.inverse_start = np.linalg.inv(self.lattice)
        self.minimiser = Minimiser(self.num_atoms)
        self.steps = 0
        self.start_energy: float | None = None

    @property
    def weight(self) -> float:
        """Atoms whose place it takes in a batch."""
        return max(self.num_atoms, float(expected_edges(self.crystal, 5.0)[0]) / TYPICAL_EDGES)

    def advance(self, evaluation: Evaluation | str) -> Relaxed | str | None:
        """Takes the values at `crystal`: the outcome, why there is none, or None with the next geometry set."""
        if isinstance(evaluation, str):
            return isolation(self.crystal, self.cutoff) or evaluation
        energy, forces, stress = float(evaluation.energies[0]), evaluation.forces, evaluation.stresses[0]
        if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
            return "energy or forces are not finite"
        if self.start_energy is None:
            self.start_energy = energy
        if not forces.any() and not stress.any():
            return isolation(self.crystal, self.cutoff) or WITHOUT_FORCES
        virial = stress * self.crystal.volumes[0]
        largest = max(_longest(forces), _longest(virial) / self.num_atoms)
        if largest < self.settings.fmax:
            return self._end(energy, largest, converged=True)
        if self.steps >= self.settings.max_steps:
            return self._end(energy, largest, converged=False)
        if self.steps >= EARLIEST_COLLAPSE and self.steps % EARLIEST_COLLAPSE == 0:
            fault = _collapse(self.crystal, self.settings)
            if fault is not None:
                return fault
        # dE/dU is the virial up to second order in U: its first-order term is antisymmetric.
        position_slopes = -forces @ self.deformation.T
        moved, strained = self.minimiser.step(energy, position_slopes, virial)
        self.steps += 1
        return self._move(moved, strained)

    def _move(self, moved: FloatArray, strained: FloatArray) -> str | None:
        """Sets the geometry displaced from the start by `moved` (N, 3) A in its cell and log strain `strained`."""
        values, axes = np.linalg.eigh(strained)
        if not np.isfinite(values).all() or abs(values.sum()) > np.log(self.settings.volume_factor):
            return f"its volume changed by a factor of {np.exp(values.sum()):.2g}"
        self.deformation = axes * np.exp(values) @ axes.T
        self.lattice = self.start.lattices[0] @ self.deformation
        self.frac_coords = self.start.frac_coords + moved @ self.inverse_start
        volume = abs(np.linalg.det(self.lattice)) / self.num_atoms
        if not self.settings.min_volume / 2 < volume < self.settings.max_volume:
            return f"it has {volume:.3g} A^3 per atom"
        numbers = self.start.atomic_numbers
        self.crystal = Crystals(np.array([self.num_atoms]), numbers, self.frac_coords, self.lattice[None])
        return None

    def _end(self, energy: float, largest: float, converged: bool) -> Relaxed | str:
        fault = _collapse(self.crystal, self.settings) or isolation(self.crystal, self.cutoff)
        if fault is not None:
            return fault
        reason = None if converged else f"not converged in {self.steps} steps: largest force {largest:.2g} eV/A"
        lattice = self.crystal.lattices[0]
        return Relaxed(energy, self.crystal.frac_coords, lattice, converged, self.steps, largest, reason)

    def fallback(self, potential: Potential, reason: str) -> Relaxed:
        """The outcome of a crystal that went wrong: the energy it began with, where that is sane."""
        if self.start_energy is not None and _collapse(self.start, self.settings) is None:
            arrays = self.start.frac_coords, self.start.lattices[0]
            return Relaxed(self.start_energy, *arrays, False, self.steps, np.inf, reason)
        return unrelaxed(self.start, potential, reason, self.steps)


def _longest(rows: FloatArray) -> float:
    return float(np.sqrt((rows * rows).sum(axis=1).max()))


def _collapse(crystal: Crystals, settings: RelaxationSettings) -> str | None:
    """What is wrong with a geometry where the potential cannot be trusted."""
    volume = crystal.volumes[0] / crystal.num_atoms[0]
    if not settings.min_volume <= volume <= settings.max_volume:
        return f"it has {volume:.3g} A^3 per atom"
    distance = closest_pairs(crystal)[0]
    if crystal.num_atoms[0] > 1 and not distance >= settings.min_distance:
        return f"atoms are {distance:.2f} A apart"
    translation = shortest_translations(crystal.lattices)[0]
    if not translation >= settings.min_distance:
        return f"an atom is {translation:.2f} A from its own image"
    return None


GRID_ANGSTROM = 3.0


def unrelaxed(crystal: Crystals, potential: Potential, reason: str, steps: int = 0) -> Relaxed:
    """A finite energy for a crystal whose own geometry has none: that of its atoms on a cubic grid, as `reason` says.

    It keeps the columns finite and claims nothing: such a crystal never counts as stable.
    """
    count = int(crystal.num_atoms[0])
    side = int(np.ceil(np.cbrt(count)))
    places = np.stack(np.unravel_index(np.arange(count), (side, side, side)), axis=1) / side
    lattice = np.eye(3) * GRID_ANGSTROM * side
    grid = Crystals(crystal.num_atoms, crystal.atomic_numbers, places, lattice[None])
    found = evaluate_apart(potential, [grid], derivatives=False)[0]
    energy = np.nan if isinstance(found, str) else float(found.energies[0])
    reason = f"{reason} (its energy is that of its atoms {GRID_ANGSTROM:g} A apart)"
    return Relaxed(energy, grid.frac_coords, lattice, False, steps, np.inf, reason)
