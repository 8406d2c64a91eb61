"""Charge neutrality of compositions by SMACT's rule, for any number of elements.

`smact.screening.smact_validity` tries the product of the oxidation states of all elements: with 8 or more different
elements it runs for minutes or for ever. Its rule needs no product. A choice of states passes its Pauling test when
every cation is less electronegative than every anion; so for some value of the electronegativity all elements below
it are cations and all from it upward are anions (states of zero are neither). For each such cut, in order of
electronegativity, the total charges that the cations can reach and those that the anions can reach are sets of small
integers: the bits of one Python integer, an element adding its states by shifts. The composition is neutral when the
two sets share a charge. The work grows as elements times states times atoms; all data are SMACT's own, read when the
rule is first used.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

OxidationStates = Literal["smact14", "icsd24", "listed"]  # listed: what SMACT's elements have without a filter


@dataclass(frozen=True)
class CompositionRule:
    """SMACT's composition check with one set of oxidation states: Pauling test on, alloys and elements valid.

    metals: atomic numbers that count as metals. states: oxidation states by atomic number; an element without any is
    missing. electronegativities: by atomic number, None where unknown; an element SMACT knows nothing of is missing.
    """

    oxidation_states_set: OxidationStates
    metals: frozenset[int]
    states: Mapping[int, Sequence[int]]
    electronegativities: Mapping[int, float | None]

    def fault(self, counts: Mapping[int, int]) -> str | None:
        """What makes a composition invalid, None where it is valid. counts: atoms (>= 1) by atomic number."""
        if len(counts) <= 1 or self.metals.issuperset(counts):
            return None
        unknown = [z for z in counts if z not in self.electronegativities]
        if unknown:
            return f"SMACT has no data for {_symbols(unknown)}"
        stateless = [z for z in counts if z not in self.states]
        if stateless:
            return f"no oxidation states for {_symbols(stateless)} in {self.oxidation_states_set}"
        electronegativities = {z: self.electronegativities[z] for z in counts}
        untested = [z for z, value in electronegativities.items() if value is None]
        if untested:
            return f"no electronegativity for {_symbols(untested)}"
        known = {z: value for z, value in electronegativities.items() if value is not None}
        if not self._is_neutral(counts, known):
            return "no charge-neutral oxidation states with cations less electronegative than anions"
        return None

    def _is_neutral(self, counts: Mapping[int, int], electronegativities: Mapping[int, float]) -> bool:
        divisor = math.gcd(*counts.values())
        # Equal electronegativities cannot have opposite signs, so they are on the same side of every cut.
        groups = [
            [(counts[z] // divisor, self.states[z]) for z in counts if electronegativities[z] == value]
            for value in sorted(set(electronegativities.values()))
        ]
        cations, anions = [1], [1]  # reachable charges below and above each cut; bit q is set for charge +-q
        for group in groups:
            cations.append(_with_group(cations[-1], group, 1))
        for group in reversed(groups):
            anions.append(_with_group(anions[-1], group, -1))
        return any(below & above for below, above in zip(cations, reversed(anions), strict=True))


def _with_group(charges: int, group: Sequence[tuple[int, Sequence[int]]], sign: int) -> int:
    """Charges that can be reached when elements with (count, states) join, in states of that sign or zero."""
    for count, states in group:
        reached = 0
        for state in states:
            if state * sign >= 0:
                reached |= charges << (abs(state) * count)
        charges = reached
    return charges


@functools.cache
def composition_rule(oxidation_states_set: OxidationStates) -> CompositionRule:
    """The rule that `smact_validity` follows with oxidation_states_set="smact14", or by default ("icsd24").

    The default set is filtered as SMACT's own `ICSD24FilterConfig` says. "listed" is each element's attribute
    `oxidation_states`, which evaluations of their own read; it depends on SMACT's version.
    """
    import smact
    from smact.screening import ICSD24FilterConfig
    from smact.utils.oxidation import ICSD24OxStatesFilter

    elements = smact.element_dictionary()
    if oxidation_states_set == "smact14":
        states = {e.number: tuple(e.oxidation_states_smact14 or ()) for e in elements.values()}
    elif oxidation_states_set == "listed":
        states = {e.number: tuple(e.oxidation_states or ()) for e in elements.values()}
    else:
        config = ICSD24FilterConfig()
        table = ICSD24OxStatesFilter().filter(config.consensus, config.include_zero, config.commonality)
        by_symbol = dict(zip(table["element"], table["oxidation_state"], strict=True))
        states = {e.number: tuple(map(int, str(by_symbol.get(s, "")).split())) for s, e in elements.items()}
    return CompositionRule(
        oxidation_states_set,
        frozenset(e.number for s, e in elements.items() if s in smact.metals),
        {z: tuple(dict.fromkeys(values)) for z, values in states.items() if values},
        {e.number: e.pauling_eneg for e in elements.values()},
    )


@functools.lru_cache(maxsize=100_000)
def composition_fault(oxidation_states_set: OxidationStates, counts: tuple[tuple[int, int], ...]) -> str | None:
    """`CompositionRule.fault` of pairs (atomic number, atoms), remembered."""
    return composition_rule(oxidation_states_set).fault(dict(counts))


def _symbols(atomic_numbers: Sequence[int]) -> str:
    from pymatgen.core import Element

    return ", ".join(Element.from_Z(z).symbol for z in sorted(atomic_numbers))
