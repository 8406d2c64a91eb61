"""A minimiser for one crystal's positions and cell that needs few evaluations: L-BFGS within a trust radius."""

from __future__ import annotations

from collections import deque

import numpy as np

from bench.arrays import FloatArray

MEMORY = 20  # pairs of steps and changes of slope; as many as a relaxation usually takes
STIFFNESS = 25.0  # eV/A^2, of a bond: the first guess of the curvature
# Log strain times sqrt(N) times this, in A, is about as stiff as an atom: an elastic modulus of 1 eV/A^3 and 15 A^3 per
# atom make 15 N eV, a bond 25 eV/A^2.
CELL_LENGTH = 1.0
FIRST_RADIUS, MAX_RADIUS, MIN_RADIUS = 0.1, 0.25, 1e-3  # A, of the atom that moves farthest
RISE = 1e-4  # eV per atom by which the energy may rise in a step: single precision is not better


class Minimiser:
    """Steps towards a minimum from energies and slopes (Liu and Nocedal 1989, two-loop recursion).

    Variables: displacements (N, 3) in A from the first geometry, in its cell, and the symmetric log strain (3, 3) of
    the cell. A step that raises the energy is taken back and the trust radius shrinks.
    """

    def __init__(self, num_atoms: int) -> None:
        self.num_atoms = num_atoms
        self.cell_scale = CELL_LENGTH * np.sqrt(num_atoms)
        self.position = np.zeros(3 * num_atoms + 9)
        self.radius = FIRST_RADIUS
        self.best: tuple[float, FloatArray, FloatArray] | None = None  # energy, position, slope where it was lowest
        self.pairs: deque[tuple[FloatArray, FloatArray, float]] = deque(maxlen=MEMORY)

    def step(self, energy: float, position_slopes: FloatArray, virial: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The next displacements and log strain. position_slopes (N, 3) eV/A, virial (3, 3) eV: dE/d variable."""
        symmetric = (virial + virial.T) / 2
        slope = np.concatenate([position_slopes.ravel(), symmetric.ravel() / self.cell_scale])
        if self.best is not None:
            best_energy, best_position, best_slope = self.best
            self._learn(self.position - best_position, slope - best_slope)
            if energy > best_energy + RISE * self.num_atoms and self.radius > MIN_RADIUS:
                self.radius = max(MIN_RADIUS, 0.35 * min(self.radius, self._reach(self.position - best_position)))
                return self._go(best_position, self._downhill(best_slope))
            self.radius = min(MAX_RADIUS, 1.4 * self.radius)
        self.best = (energy, self.position, slope)
        return self._go(self.position, self._downhill(slope))

    def _learn(self, moved: FloatArray, change: FloatArray) -> None:
        curvature = float(moved @ change)
        if curvature > 1e-4 * np.linalg.norm(moved) * np.linalg.norm(change) and curvature > 0:
            self.pairs.append((moved, change, 1 / curvature))

    def _downhill(self, slope: FloatArray) -> FloatArray:
        """Minus the inverse Hessian's estimate times the slope."""
        direction = slope.copy()
        factors = []
        for moved, change, inverse in reversed(self.pairs):
            factor = inverse * float(moved @ direction)
            direction -= factor * change
            factors.append(factor)
        if self.pairs:
            moved, change, inverse = self.pairs[-1]
            direction /= inverse * float(change @ change)
        else:
            direction /= STIFFNESS
        for (moved, change, inverse), factor in zip(self.pairs, reversed(factors), strict=True):
            direction += moved * (factor - inverse * float(change @ direction))
        return -direction

    def _reach(self, step: FloatArray) -> float:
        """The longest row of a step, A."""
        return float(np.sqrt((step.reshape(-1, 3) ** 2).sum(axis=1).max()))

    def _go(self, start: FloatArray, step: FloatArray) -> tuple[FloatArray, FloatArray]:
        self.position = start + step * min(1.0, self.radius / max(self._reach(step), 1e-12))
        moved, strained = np.split(self.position.reshape(-1, 3), [self.num_atoms])
        return moved, strained / self.cell_scale
