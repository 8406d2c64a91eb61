"""Machine-learned potentials: energies, forces and stresses of a batch of crystals, checked when they are loaded."""

from tasks.stability.potentials.loading import (
    DEFAULT_POTENTIAL,
    ENTRY_POINTS,
    known_potentials,
    load_potential,
    potential_protocol,
)
from tasks.stability.potentials.potential import (
    MP_ELEMENTS,
    EdgePotential,
    Evaluation,
    Potential,
    require_elements,
)

__all__ = [
    "DEFAULT_POTENTIAL",
    "ENTRY_POINTS",
    "MP_ELEMENTS",
    "EdgePotential",
    "Evaluation",
    "Potential",
    "known_potentials",
    "load_potential",
    "potential_protocol",
    "require_elements",
]
