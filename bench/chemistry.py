"""Kinds of chemistry: where potentials err and disagree, and which crystals a calibration has seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

SYMBOL = re.compile(r"[A-Z][a-z]?")
NONMETALS = frozenset(
    [
        "H",
        "B",
        "C",
        "N",
        "O",
        "F",
        "Si",
        "P",
        "S",
        "Cl",
        "Ge",
        "As",
        "Se",
        "Br",
        "Te",
        "I",
        "He",
        "Ne",
        "Ar",
        "Kr",
        "Xe",
    ]
)
F_BLOCK = frozenset(
    [
        "La",
        "Ce",
        "Pr",
        "Nd",
        "Pm",
        "Sm",
        "Eu",
        "Gd",
        "Tb",
        "Dy",
        "Ho",
        "Er",
        "Tm",
        "Yb",
        "Lu",
        "Ac",
        "Th",
        "Pa",
        "U",
        "Np",
        "Pu",
    ]
)
# Elements to which the Materials Project gives a Hubbard U in oxides and fluorides: potentials learn a mixture.
WITH_U = frozenset(["Co", "Cr", "Fe", "Mn", "Mo", "Ni", "V", "W"])
# The first that holds is a crystal's kind of chemistry.
KINDS: Mapping[str, Callable[[frozenset[str]], bool]] = MappingProxyType(
    {
        "oxides and fluorides of Co, Cr, Fe, Mn, Mo, Ni, V, W (DFT+U)": lambda s: bool(s & WITH_U and s & {"O", "F"}),
        "other oxides": lambda s: "O" in s,
        "halides": lambda s: bool(s & {"F", "Cl", "Br", "I"}),
        "sulfides, selenides, tellurides": lambda s: bool(s & {"S", "Se", "Te"}),
        "nitrides, phosphides, arsenides": lambda s: bool(s & {"N", "P", "As"}),
        "hydrides, borides, carbides, silicides, germanides": lambda s: bool(s & NONMETALS),
        "metals alone": lambda s: True,
    }
)


def symbols_in(formula: str) -> frozenset[str]:
    """The symbols of the elements in a formula."""
    return frozenset(SYMBOL.findall(formula))


def kind_of(symbols: frozenset[str]) -> str:
    """The kind of a crystal's chemistry, from the symbols of its elements."""
    return next(kind for kind, holds in KINDS.items() if holds(symbols))
