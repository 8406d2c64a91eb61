"""Energy above the convex hull of reference phases, whose energies come from the same potential."""

from tasks.stability.hull.energies import (
    Composition,
    Hull,
    HullNotHere,
    composition_of,
    energies_above,
    hull_path,
    read_hull,
    read_hull_columns,
)

__all__ = [
    "Composition",
    "Hull",
    "HullNotHere",
    "composition_of",
    "energies_above",
    "hull_path",
    "read_hull",
    "read_hull_columns",
]
