"""LeMat-GenBench's rule of charge neutrality, from the metallic to the ionic.

A crystal is neutral where SMACT's metallicity score is above 0.7, where every bond valence sum is 0, or where
pymatgen's BVAnalyzer gives oxidation states that add up to 0. Otherwise its formula has to be neutral with the
oxidation states that LeMat-GenBench's table lists (`states_table`), the atoms of an element in states at most 1
apart and no element neutral on the whole; or, where that cannot be, with all states that pymatgen knows, falling with
the electronegativity.

The published code goes through the product of what the elements may carry; here the least sum is kept for each
charge, which gives the same answer for any number of elements.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bench.datasets import DataUnavailable, cache_dir
from bench.errors import one_line

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

MIN_METALLICITY = 0.7
ZERO_VALENCE = 1e-15
MOST_CHARGE = 0.1  # e, of the oxidation states of a cell
# Not in the package: it belongs to LeMat-GenBench (Apache 2.0), derived from LeMat-Bulk and the ICSD.
TABLE = "lemat_icsd_oxi_state_mapping.json"
TABLE_SHA256 = "53e87889f29b9ff2f1e3501c1aff0406266c0afede171bd9a48141b9b79594ae"
TABLE_URL = (
    "https://raw.githubusercontent.com/LeMaterial/lemat-genbench/5bab2cd8642d863250d09a9f03292109e1c7345c/data/" + TABLE
)
FOLDER = "lemat_genbench"  # below BENCH_DATA_DIR and the cache
TIMEOUT_S = 60

States = Mapping[str, Sequence[int]]  # symbol -> oxidation states


@functools.cache
def states_table() -> States:
    """LeMat-GenBench's oxidation states by element, from its own file; downloaded once where it is not at hand.

    DataUnavailable says where the file may be put; ValueError where the one at hand is another one.
    """
    named = os.environ.get("BENCH_DATA_DIR")
    places = [*([Path(named) / FOLDER / TABLE] if named else []), cache_dir() / FOLDER / TABLE]
    place = next((path for path in places if path.is_file()), None)
    content = _downloaded(places[-1]) if place is None else place.read_bytes()
    if hashlib.sha256(content).hexdigest() != TABLE_SHA256:
        raise ValueError(f"{place or TABLE_URL}: not the published file ({TABLE_URL}); replace it")
    found = {symbol: tuple(map(int, states)) for symbol, states in json.loads(content).items()}
    return MappingProxyType(found)


def _downloaded(place: Path) -> bytes:
    import pooch

    try:
        pooch.get_logger().setLevel("WARNING")
        fetch = pooch.HTTPDownloader(progressbar=False, timeout=TIMEOUT_S)
        kept = pooch.retrieve(TABLE_URL, f"sha256:{TABLE_SHA256}", place.name, place.parent, downloader=fetch)
    except (OSError, ValueError) as error:
        raise DataUnavailable(
            f"--rules lemat needs {TABLE} of LeMat-GenBench, which cannot be downloaded ({one_line(error)}); "
            f"put it from {TABLE_URL} into $BENCH_DATA_DIR/{FOLDER}"
        ) from error
    return Path(kept).read_bytes()


def charge_fault(structure: Structure, table: States) -> str | None:
    """Why a crystal is not neutral by the rule, None where it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements without an electronegativity
        return _charge_fault(structure, table)


def _charge_fault(structure: Structure, table: States) -> str | None:
    from pymatgen.analysis import bond_valence

    if _is_metallic(structure):
        return None
    analyse: Any = bond_valence.BVAnalyzer  # without annotations
    try:
        decorated = analyse().get_oxi_state_decorated_structure(structure)
    except ValueError:
        return formula_fault(structure.composition.reduced_composition, table)
    except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:  # the published code counts it as invalid
        return f"pymatgen's bond valences fail ({type(error).__name__})"
    charge = abs(float(sum(site.specie.oxi_state for site in decorated)))
    return None if charge <= MOST_CHARGE else f"bond valences leave a charge of {charge:g}"


def _is_metallic(structure: Structure) -> bool:
    """By the formula's score, or by bond valence sums that are all zero; not where pymatgen cannot tell."""
    from pymatgen.analysis import bond_valence, local_env
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
    from smact.metallicity import metallicity_score

    neighbours: Any = local_env.get_neighbors_of_site_with_index  # neither has annotations
    valence: Any = bond_valence.calculate_bv_sum
    try:
        if metallicity_score(structure.composition) > MIN_METALLICITY:
            return True
        sites = SpacegroupAnalyzer(structure).get_symmetrized_structure().equivalent_indices
        return all(abs(valence(structure[first], neighbours(structure, first))) < ZERO_VALENCE for first, *_ in sites)
    except Exception:  # as published: whatever fails in here, of four libraries, only leaves the question open
        return False


def formula_fault(formula: Composition, table: States) -> str | None:
    """Why a formula cannot be neutral by oxidation states, None where it can. formula: of whole numbers of atoms."""
    from pymatgen.core import Element

    atoms = {symbol: round(amount) for symbol, amount in formula.get_el_amt_dict().items()}
    unknown = [symbol for symbol in atoms if not table.get(symbol)]
    if unknown:
        return f"no oxidation states of {', '.join(unknown)} in LeMat-GenBench's table"
    if 0 in _least(([(charge, 0.0) for charge in charges(table[symbol], n)] for symbol, n in atoms.items()), atoms):
        return None
    electronegativities = {symbol: float(Element(symbol).X) for symbol in atoms}
    mean = math.fsum(electronegativities.values()) / len(atoms)
    if math.isnan(mean):
        return "not neutral with LeMat-GenBench's oxidation states, and an electronegativity is not known"
    every = (
        [(charge, charge / n * (electronegativities[symbol] - mean)) for charge in charges(_all_states(symbol), n)]
        for symbol, n in atoms.items()
    )
    # Pearson's coefficient of states and electronegativities has the sign of this sum.
    falling = _least(every, atoms).get(0, math.inf) < -1e-12
    return None if falling else "not neutral with any oxidation states that fall with the electronegativity"


def charges(states: Iterable[int], n: int) -> set[int]:
    """What n atoms of an element may carry together but 0, in states at most 1 apart."""
    known = set(states)
    alone = {n * state for state in known}
    mixed = {n * state + k for state in known if state + 1 in known for k in range(1, n)}
    return (alone | mixed) - {0}


def _least(choices: Iterable[Sequence[tuple[int, float]]], atoms: Mapping[str, int]) -> dict[int, float]:
    """For each total charge the least sum of weights, one choice (charge, weight) of every element."""
    totals = {0: 0.0} if atoms else {}
    for choice in choices:
        reached: dict[int, float] = {}
        for total, weight in totals.items():
            for charge, more in choice:
                key, value = total + charge, weight + more
                if value < reached.get(key, math.inf):
                    reached[key] = value
        totals = reached
    return totals


def _all_states(symbol: str) -> tuple[int, ...]:
    from pymatgen.core import Element

    return tuple(map(int, Element(symbol).oxidation_states))


def charges_protocol() -> dict[str, Any]:
    """Settings of the rule, as plain JSON."""
    from importlib.metadata import version

    return {
        "smact": version("smact"),
        "pymatgen": version("pymatgen"),
        "min_metallicity": MIN_METALLICITY,
        "most_charge": MOST_CHARGE,
        "states": TABLE_SHA256,
    }
