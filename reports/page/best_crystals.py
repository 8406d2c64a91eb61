"""The best crystals of a model: the lowest above the hull, as structures to turn, as words and as CIF."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import Crystals
from reports.page.stored_counts import flag, stored_crystals
from reports.run_results import ModelResult

TASK = "stability"
MOST_ATOMS = 200  # of a crystal that is drawn
NEAR_FACE = 0.01  # of the cell edge: an atom so near to a face is drawn on the opposite one as well
SYMMETRY_ANGSTROM = 0.1
DRAWN_RADIUS = 0.45  # of the covalent radius, so that one sees between the atoms
UNKNOWN_COLOUR = (0.6, 0.6, 0.6)


@dataclass(frozen=True)
class Candidate:
    """A relaxed crystal. row: its place in its repeat. e_above_hull: eV/atom. novel: None where that is not known."""

    repeat: int
    row: int
    e_above_hull: float
    stable: bool
    novel: bool | None


@dataclass(frozen=True)
class ShownCrystal:
    """One crystal for the page. title, facts, description: in words. view: what the script draws. cif: a data URI."""

    title: str
    facts: str
    description: str
    view: Mapping[str, Any]
    cif: str
    file_name: str


@dataclass(frozen=True)
class BestCrystals:
    """A model's best crystals; remark: how many are stable, or why none is shown."""

    method: str
    remark: str
    crystals: Sequence[ShownCrystal]


def best_crystals(result: ModelResult, most: int) -> BestCrystals:
    """The stable crystals lowest above the hull, at most so many; where none is stable, the nearest to it."""
    if not result.run.has_table(result.model, TASK):
        remedy = f"python -m bench rescore DIR --tasks {TASK}"
        return BestCrystals(result.method, f"Not relaxed, so nothing is known of stability; `{remedy}` adds it.", [])
    candidates = _candidates(result)
    stable = [candidate for candidate in candidates if candidate.stable]
    requested = f"{result.requested:,}"
    if stable:
        # All are counted, like in Table 1; a copy of one that is shown is not shown.
        all_stable = sum(int(flag(result, TASK, "stable", repeat).sum()) for repeat in _repeats(result))
        remark = f"{all_stable:,} of {requested} {'is' if all_stable == 1 else 'are'} stable."
        return BestCrystals(result.method, remark, _shown(result, stable, most))
    if candidates:
        nearest = "The nearest to the hull that converged:" if len(candidates) > 1 else "The only one that converged:"
        return BestCrystals(
            result.method, f"None of {requested} is stable. {nearest}", _shown(result, candidates, min(most, 2))
        )
    return BestCrystals(result.method, f"None of {requested} is stable, and no relaxation converged.", [])


def _repeats(result: ModelResult) -> range:
    return range(len(result.run.folders(result.model)))


def _candidates(result: ModelResult) -> list[Candidate]:
    """Converged crystals with an energy, each group of equal ones once, the lowest above the hull first."""
    found = []
    with_novelty = result.run.has_table(result.model, "novelty")
    for repeat in _repeats(result):
        columns = ["e_above_hull", "stable", "converged"]
        table = result.run.task_table(result.model, TASK, repeat, columns)
        energies = table["e_above_hull"].to_pylist()
        stable, converged = table["stable"].to_pylist(), table["converged"].to_pylist()
        unique: Sequence[bool | None] = [True] * len(energies)
        novel: Sequence[bool | None] = [None] * len(energies)
        if with_novelty:
            novelty = result.run.task_table(result.model, "novelty", repeat, ["unique", "novel"])
            unique, novel = novelty["unique"].to_pylist(), novelty["novel"].to_pylist()
        found += [
            Candidate(repeat, row, float(energy), bool(stable[row]), novel[row])
            for row, energy in enumerate(energies)
            if energy is not None and np.isfinite(energy) and converged[row] and unique[row]
        ]
    return sorted(found, key=lambda candidate: (candidate.e_above_hull, candidate.repeat, candidate.row))


def _shown(result: ModelResult, candidates: Sequence[Candidate], most: int) -> list[ShownCrystal]:
    """The first of them that are small enough to be drawn."""
    shown: list[ShownCrystal] = []
    for start in range(0, len(candidates), 4 * most):  # most are small: a few shards are read, not all
        chosen = candidates[start : start + 4 * most]
        crystals: dict[tuple[int, int], Crystals] = {}
        for repeat in {candidate.repeat for candidate in chosen}:
            rows = np.array([c.row for c in chosen if c.repeat == repeat], dtype=np.int64)
            found = stored_crystals(result, repeat, rows)
            crystals |= {(repeat, row): crystal for row, crystal in found.items()}
        for candidate in chosen:
            crystal = crystals.get((candidate.repeat, candidate.row))
            if crystal is not None and crystal.num_atoms[0] <= MOST_ATOMS and len(shown) < most:
                shown.append(show_crystal(result, candidate, crystal))
        if len(shown) == most:
            break
    return shown


def show_crystal(result: ModelResult, candidate: Candidate, crystal: Crystals) -> ShownCrystal:
    """One crystal, as it was sampled, with the energy that it has once relaxed."""
    formula = crystal.formula(0)
    place = f"crystal {candidate.row}" + (f" of repeat {candidate.repeat}" if len(_repeats(result)) > 1 else "")
    state = "stable" if candidate.stable else "not stable"
    novel = {True: "new", False: "known from training", None: ""}[candidate.novel]
    facts = ", ".join(
        filter(None, [f"{candidate.e_above_hull:.3f} eV/atom above the hull".replace("-", "−"), state, novel, place])
    )
    file_name = re.sub(r"[^A-Za-z0-9._@+-]", "_", f"{result.method}-{formula}-{candidate.repeat}-{candidate.row}.cif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every noble gas
        structure = crystal.structure(0)
        cif = "data:chemical/x-cif;charset=utf-8," + quote(str(structure.to(fmt="cif")), safe="")
        description = f"{_contents(crystal)}. {_cell(crystal)}. {_symmetry(structure)}."
    return ShownCrystal(formula, facts, description, view(crystal), cif, file_name)


def view(crystal: Crystals) -> dict[str, Any]:
    """What is drawn: cell vectors, kinds of atoms with colour and radius in A, and atoms as [kind, x, y, z] in A.

    Atoms on faces, edges and corners stand on all of them. The middle of the cell is the origin, c points along z and a
    lies in the plane of x and z, however the cell was turned.
    """
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from pymatgen.core import Element

    numbers, coords, given = crystal.arrays(0)
    lattice = _upright(given)
    kinds = np.unique(numbers).tolist()
    atoms = []
    for number, position in zip(numbers.tolist(), coords, strict=True):
        for image in _images(position):
            x, y, z = ((image - 0.5) @ lattice).round(3).tolist()
            atoms.append([kinds.index(number), x, y, z])
    return {
        "cell": lattice.round(4).tolist(),
        "kinds": [
            {
                "symbol": str(Element.from_Z(z).symbol),
                "name": str(Element.from_Z(z).long_name),
                "colour": _hex(jmol_colors[z] if z < len(jmol_colors) else UNKNOWN_COLOUR),
                "radius": round(DRAWN_RADIUS * float(covalent_radii[z] if z < len(covalent_radii) else 1.5), 3),
            }
            for z in kinds
        ],
        "atoms": atoms,
    }


def _upright(lattice: FloatArray) -> FloatArray:
    """(3, 3) the cell turned, not mirrored, so that c points along z and a lies in the plane of x and z."""
    third = lattice[2] / np.linalg.norm(lattice[2])
    first = lattice[0] - (lattice[0] @ third) * third
    first /= np.linalg.norm(first)
    return np.asarray(lattice @ np.array([first, np.cross(third, first), third]).T, dtype=np.float64)


def _images(position: FloatArray) -> FloatArray:
    """(1 to 8, 3) the position and its copies on opposite faces."""
    choices = [[x, *([x + 1.0] if x < NEAR_FACE else []), *([x - 1.0] if x > 1 - NEAR_FACE else [])] for x in position]
    return np.array([[a, b, c] for a in choices[0] for b in choices[1] for c in choices[2]])


def _contents(crystal: Crystals) -> str:
    from pymatgen.core import Element

    numbers, counts = np.unique(crystal.arrays(0)[0], return_counts=True)
    parts = [f"{count} {Element.from_Z(int(z)).symbol}" for z, count in zip(numbers, counts, strict=True)]
    total = int(counts.sum())
    return f"{total} atom{'s' * (total != 1)}: {', '.join(parts)}"


def _cell(crystal: Crystals) -> str:
    from pymatgen.core import Lattice

    lattice = Lattice(crystal.arrays(0)[2])
    lengths = ", ".join(f"{name} = {value:.2f}" for name, value in zip("abc", lattice.abc, strict=True))
    angles = ", ".join(f"{name} = {value:.1f}°" for name, value in zip("αβγ", lattice.angles, strict=True))
    return f"Cell {lengths} Å, {angles}"


def _symmetry(structure: Any) -> str:
    """The space group within a tolerance, or that none was found."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    try:
        analyzer = SpacegroupAnalyzer(structure, symprec=SYMMETRY_ANGSTROM)
        return f"Space group {analyzer.get_space_group_symbol()} within {SYMMETRY_ANGSTROM:g} Å"
    except Exception as error:  # spglib refuses overlapping atoms and odd cells with errors of several kinds
        return f"Space group not found ({type(error).__name__})"


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour)
