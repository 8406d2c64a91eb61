"""Structure fingerprints: the mean over a crystal's sites of CrystalNN's order parameters.

The site fingerprint is that of Zimmermann and Jain 2020 (doi:10.1039/C9RA07755C) as matminer's
`CrystalNNFingerprint.from_preset("ops")` gives it: for each coordination number the weight that CrystalNN gives it,
and this weight times the order parameters of the motifs with that many neighbours. Neighbours and the parameters of
motifs are pymatgen's. Sites that a symmetry maps onto each other are computed once, which changes nothing but the time.
"""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import Crystals
from tasks.coverage.motifs import TYPES, Angles, order_parameter
from tasks.space_groups import symmetry_dataset

# Coordination number -> motifs, in the order of matminer's preset. Up to MOST_NEIGHBOURS a number has its weight too.
MOTIFS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("sgl_bd",),
        2: ("L-shaped", "water-like", "bent 120 degrees", "bent 150 degrees", "linear"),
        3: ("trigonal planar", "trigonal non-coplanar", "T-shaped"),
        4: (
            "square co-planar",
            "tetrahedral",
            "rectangular see-saw-like",
            "see-saw-like",
            "trigonal pyramidal",
        ),
        5: ("pentagonal planar", "square pyramidal", "trigonal bipyramidal"),
        6: ("hexagonal planar", "octahedral", "pentagonal pyramidal"),
        7: ("hexagonal pyramidal", "pentagonal bipyramidal"),
        8: ("body-centered cubic", "hexagonal bipyramidal"),
        9: ("q2", "q4", "q6"),
        10: ("q2", "q4", "q6"),
        11: ("q2", "q4", "q6"),
        12: ("cuboctahedral", "q2", "q4", "q6"),
    }
)
MOST_NEIGHBOURS = 24
NUM_FEATURES = MOST_NEIGHBOURS + sum(map(len, MOTIFS.values()))
SAME_SITE_ANGSTROM = 1e-5  # an atom may lie so far off its image by a symmetry
SEARCH_ANGSTROM = 7.0  # CrystalNN's; doubled where an atom has no closed Voronoi cell
MOST_POINTS = 50_000  # atoms within reach of one atom, above which its Voronoi cell would take minutes


class NoFingerprint(ValueError):
    """Why a crystal has none."""


def structure_fingerprint(crystals: Crystals, index: int) -> FloatArray:
    """(61,) mean of the site fingerprints of one crystal. NoFingerprint says why it has none."""
    numbers, _, lattice = crystals.arrays(index)
    volume = abs(float(np.linalg.det(lattice)))
    reach = max(SEARCH_ANGSTROM, 2 * float(np.linalg.norm(lattice, axis=1).max()))
    points = 4 / 3 * math.pi * reach**3 * len(numbers) / volume if volume > 0 else math.inf
    if points > MOST_POINTS:
        raise NoFingerprint(f"its cell is too dense or too long: {points:.2g} atoms within {reach:.3g} A of an atom")
    structure = crystals.structure(index)
    total = np.zeros(NUM_FEATURES)
    for site, count in _sites(crystals, index).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of elements without a radius or an electronegativity
                total += count * site_fingerprint(structure, site)
        except Exception as error:  # as published: whatever CrystalNN fails with, the crystal has no fingerprint
            raise NoFingerprint(f"CrystalNN fails at atom {site}: {type(error).__name__}: {error}") from error
    return np.asarray(total / len(numbers))


def site_fingerprint(structure: Any, site: int) -> FloatArray:
    """(61,) weights of the coordination numbers 1 to 24, each followed by those of its motifs.

    structure: pymatgen's. Raises what CrystalNN raises.
    """
    found = _crystal_nn().get_nn_data(structure, site)
    features: list[float] = []
    for number in range(1, MOST_NEIGHBOURS + 1):
        weight = found.cn_weights.get(number, 0.0)
        features.append(weight)
        motifs = MOTIFS.get(number, ())
        if not motifs:
            continue
        if weight == 0:
            features += [0.0] * len(motifs)
            continue
        neighbours = [neighbour["site"] for neighbour in found.cn_nninfo[number]]
        sites, places = [structure[site], *neighbours], list(range(1, len(neighbours) + 1))
        angles = Angles.of(np.array([neighbour.coords for neighbour in neighbours]) - structure[site].coords)
        for motif in _order_parameters(number):
            kind = motif.get_type(0)
            if kind in TYPES:
                parameter = order_parameter(kind, motif.get_parameters(0), angles)
            else:
                parameter = motif.get_order_parameters(sites, 0, indices_neighs=places)[0] or 0.0  # None: not defined
            features.append(weight * parameter)
    return np.asarray(features, dtype=np.float64)


def coordination_numbers(fingerprints: FloatArray) -> FloatArray:
    """(...) mean number of neighbours that CrystalNN gives the atoms. fingerprints: (..., 61)."""
    places, place = [], 0
    for number in range(1, MOST_NEIGHBOURS + 1):
        places.append(place)
        place += 1 + len(MOTIFS.get(number, ()))
    return np.asarray(fingerprints[..., places] @ np.arange(1, MOST_NEIGHBOURS + 1))


def _sites(crystals: Crystals, index: int) -> dict[int, int]:
    """One site of each set of equivalent ones -> how many there are."""
    found = symmetry_dataset(crystals, index, SAME_SITE_ANGSTROM)
    if found is None:
        return dict.fromkeys(range(int(crystals.num_atoms[index])), 1)
    sites, counts = np.unique(found.equivalent_atoms, return_counts=True)
    return dict(zip(sites.tolist(), counts.tolist(), strict=True))


@functools.cache
def _crystal_nn() -> Any:
    from pymatgen.analysis import local_env

    make: Any = local_env.CrystalNN  # its constructor has no annotations
    return make()


@functools.cache
def _order_parameters(number: int) -> list[Any]:
    """Pymatgen's order parameter of each motif with that many neighbours.

    One object for each: several in one object come out otherwise, as its loop over neighbours mixes their settings.
    """
    from pymatgen.analysis.local_env import CrystalNN, LocalStructOrderParams

    # pymatgen moved the module that holds its optimised settings; they lie beside the class in every version.
    optimised = sys.modules[CrystalNN.__module__].CN_OPT_PARAMS.get(number, {})
    entries = [optimised.get(motif, [motif]) for motif in MOTIFS[number]]
    return [LocalStructOrderParams([entry[0]], parameters=[entry[1] if len(entry) > 1 else None]) for entry in entries]
