"""How much the neighbours of an atom lie as in a motif: order parameters from 0 to 1 of angles alone.

Those of Zimmermann et al. 2017 (doi:10.3389/fmats.2017.00034), after Peters 2009 (doi:10.1063/1.3270161), with the
types and parameters of pymatgen's `LocalStructOrderParams`, which computes the same one angle at a time. One neighbour
j is the north pole, a second k the prime meridian; all neighbours m then have a polar angle and an azimuth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.arrays import BoolArray, FloatArray

SMALL = 1e-12
ALL_AROUND = ("tri_plan_max", "tet_max")
PYRAMIDS = ("T", "tri_pyr", "sq_pyr", "pent_pyr", "hex_pyr")
BIPYRAMIDS = ("see_saw_rect", "tri_bipyr", "pent_bipyr", "hex_bipyr", "oct_max", "sq_plan_max", "hex_plan_max")
TYPES = frozenset({"bent", *ALL_AROUND, *PYRAMIDS, *BIPYRAMIDS, "pent_plan_max", "bcc", "cuboct_max"})
SEE_SAW_AZIMUTH = 0.75 * math.pi
# What pymatgen calls the parameters 2, 4, 5 and 6 of a cuboctahedron, and its other constants.
CUBOCTAHEDRON: Mapping[str, Any] = MappingProxyType({"high": 2, "low": 4, "equator": 5, "tropics": 6})
CUBOCTAHEDRON_AZIMUTH = (0.0556, 0.81649658)


@dataclass(frozen=True, eq=False)
class Angles:
    """Of n neighbours. polar: (n, n) from pole j to k; azimuth: (n, n, n) around j from k to m, in radians.

    south: (n, n, n) where m is neither j nor k and k has a meridian; around: where m has an azimuth, too.
    """

    polar: FloatArray
    azimuth: FloatArray
    south: BoolArray
    around: BoolArray

    @classmethod
    def of(cls, vectors: FloatArray) -> Angles:
        """Those of (n, 3) vectors from an atom to its neighbours, of any length but 0."""
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        n = len(units)
        cosines = units @ units.T
        across = units[None] - cosines[:, :, None] * units[:, None]  # (n, n, 3) k without its part along j
        lengths = np.linalg.norm(across, axis=2)
        has_meridian = lengths >= SMALL
        across = across / np.where(has_meridian, lengths, 1.0)[:, :, None]
        azimuth = np.arccos(np.clip(across @ across.transpose(0, 2, 1), -1.0, 1.0))
        other = ~np.eye(n, dtype=bool)
        south = other[:, :, None] & other[:, None, :] & other[None] & has_meridian[:, :, None]
        return cls(np.arccos(np.clip(cosines, -1.0, 1.0)), azimuth, south, south & has_meridian[:, None, :])


def order_parameter(kind: str, parameters: Mapping[Any, float], angles: Angles) -> float:
    """One of TYPES, with pymatgen's parameters of it; 0 where there is a single neighbour."""
    n = len(angles.polar)
    if n < 2:
        return 0.0
    share = angles.polar / math.pi
    k, m = (slice(None), slice(None), None), (slice(None), None, slice(None))
    if kind == "bcc":
        return _body_centred(parameters, angles)
    first = np.ones((n, n), dtype=bool)  # whether k counts, and its weight
    weight = 1.0
    around = angles.around
    if kind == "bent" or kind in ALL_AROUND:
        own = _gauss(parameters["IGW_TA"] * (share - parameters["TA"]))
    elif kind in PYRAMIDS:
        own = _gauss(parameters["IGW_EP"] * (share - 0.5))
    elif kind == "pent_plan_max":
        nearest = np.where(angles.polar <= parameters["TA"] * math.pi, 0.4, 0.8)
        own = _gauss(parameters["IGW_TA"] * (share - nearest))
    elif kind in BIPYRAMIDS:
        first = angles.polar < parameters["min_SPP"]
        around = around & first[k] & first[m]
        if kind == "see_saw_rect":
            around = around & (angles.azimuth < SEE_SAW_AZIMUTH)
        if kind == "hex_plan_max":
            own = _gauss(parameters["IGW_TA"] * (np.abs(share - 0.5) - parameters["TA"]))
        else:
            own = _gauss(parameters["IGW_EP"] * (share - 0.5))
    else:  # cuboct_max
        first, weight = angles.polar >= parameters["min_SPP"], parameters["w_SPP"]
        own = _gauss(parameters["IGW_SPP"] * (share - 1.0))
    values, norms = weight * own * first, weight * first
    if kind == "cuboct_max":
        others, around = _cuboctahedral(parameters, angles)
    else:
        turns = np.cos(parameters.get("fac_AA", 1.0) * angles.azimuth) ** parameters.get("exp_cos_AA", 2.0)
        others = own[m] * turns
    values = values + (others * around).sum(axis=2)
    norms = norms + around.sum(axis=2)
    if kind in BIPYRAMIDS:
        pole = angles.south & (angles.polar >= parameters["min_SPP"])[m]
        values = values + (_gauss(parameters["IGW_SPP"] * (share - 1.0))[m] * pole).sum(axis=2)
        norms = norms + pole.sum(axis=2)
    found = np.divide(values, norms, out=np.zeros_like(values), where=norms > SMALL)
    return float(found[~np.eye(n, dtype=bool)].max())


def _body_centred(parameters: Mapping[Any, float], angles: Angles) -> float:
    n = len(angles.polar)
    if n < 4:
        return 0.0
    pairs = np.triu(np.ones((n, n), dtype=bool), 1)  # each pair once
    opposite = pairs & (angles.polar >= parameters["min_SPP"])
    own = parameters["w_SPP"] * _gauss(parameters["IGW_SPP"] * (angles.polar / math.pi - 1.0))
    side = np.where(angles.polar > math.pi / 2, 1.0, -1.0)
    height = (angles.polar - math.pi / 2) / math.asin(1 / 3)
    wave = math.exp(0.5) * height * _gauss(height)
    around = angles.around & (pairs & ~opposite)[:, :, None]
    others = side[:, :, None] * np.cos(3 * angles.azimuth) * wave[:, None, :]
    total = (own * opposite).sum() + (others * around).sum()
    return float(total / (0.5 * n * (6 + (n - 2) * (n - 3))))


def _cuboctahedral(parameters: Mapping[Any, float], angles: Angles) -> tuple[FloatArray, BoolArray]:
    """(n, n, n) what each m adds where k is on the equator, and where it does: near the equator or either tropic."""
    low, high, equator, tropics = (parameters[CUBOCTAHEDRON[name]] for name in ("low", "high", "equator", "tropics"))
    polar = angles.polar
    share = polar / math.pi
    on_equator = (low < polar) & (polar < high)
    scale, middle = CUBOCTAHEDRON_AZIMUTH
    oblique = _gauss(scale * (np.cos(angles.azimuth - math.pi / 2) - middle))
    at_equator = np.cos(angles.azimuth) ** 2 * _gauss(equator * (share - 0.5))[:, None, :]
    at_tropics = oblique * _gauss(tropics * (share - np.where(polar < low, 1 / 3, 2 / 3)))[:, None, :]
    off = (polar < low) | (polar > high)
    which = (on_equator | off) & (polar < parameters["min_SPP"])
    around = angles.around & on_equator[:, :, None] & which[:, None, :]
    return np.where(on_equator[:, None, :], at_equator, at_tropics), around


def _gauss(x: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * x * x))
