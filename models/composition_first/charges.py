"""Which compositions are neutral by the usual oxidation states, for samplers that draw until one is.

Each element is in one of its common oxidation states (pymatgen's `common_oxidation_states`), all its atoms in the same
one. SMACT's rule of validity is not used: it knows so many states that most compositions pass it.
"""

from __future__ import annotations

import functools
from collections import Counter

from bench.arrays import IntArray


def is_alloy(atomic_numbers: IntArray) -> bool:
    """Whether all elements of a composition, (N,), are metals."""
    return all(_element(number)[1] for number in set(atomic_numbers.tolist()))


def is_neutral(atomic_numbers: IntArray) -> bool:
    """Whether a composition, (N,), is neutral with one usual oxidation state of each element."""
    totals = {0}
    for number, count in Counter(atomic_numbers.tolist()).items():
        totals = {total + count * state for total in totals for state in _element(number)[0]}
    return 0 in totals


def is_alloy_or_neutral(atomic_numbers: IntArray) -> bool:
    """Whether a composition, (N,), may stay where neutral ones are wanted."""
    return is_alloy(atomic_numbers) or is_neutral(atomic_numbers)


def is_neutral_and_no_alloy(atomic_numbers: IntArray) -> bool:
    """Whether a composition, (N,), may replace one that may not stay: so the share of alloys is kept."""
    return is_neutral(atomic_numbers) and not is_alloy(atomic_numbers)


@functools.cache
def _element(atomic_number: int) -> tuple[tuple[int, ...], bool]:
    """Common oxidation states, none for a noble gas, and whether it is a metal."""
    from pymatgen.core import Element

    element = Element.from_Z(atomic_number)
    return tuple(map(int, element.common_oxidation_states)), bool(element.is_metal)
