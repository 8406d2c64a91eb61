"""How many crystals show a difference of rates or costs, at 5 % and with a chosen power."""

from __future__ import annotations

import math
from statistics import NormalDist

from bench.statistics import HIGH_QUANTILE

POWER = 0.8  # how often a difference that exists is found, by convention


def crystals_for_rates(rate: float, other: float, power: float = POWER) -> int:
    """Crystals of each of two models whose rates are these, so that `differ` tells them apart with that power.

    The usual formula for two proportions (Fleiss, Levin and Paik 2003, eq. 4.14, without the correction for
    continuity), which the comparison of Wilson intervals follows closely. ValueError for rates outside [0, 1], equal
    ones, and a power that is no share above the 5 % of false findings.
    """
    for value in (rate, other):
        if not 0 <= value <= 1:
            raise ValueError(f"a rate of {value:g} is none: between 0 and 1")
    if rate == other:
        raise ValueError(f"two rates of {rate:g} have no difference to be shown")
    if not 1 - HIGH_QUANTILE < power < 1:
        raise ValueError(f"--power {power:g}: between 0.05 and 1")
    normal = NormalDist()
    mean = (rate + other) / 2
    under_equality = normal.inv_cdf(HIGH_QUANTILE) * math.sqrt(2 * mean * (1 - mean))
    under_difference = normal.inv_cdf(power) * math.sqrt(rate * (1 - rate) + other * (1 - other))
    return math.ceil(((under_equality + under_difference) / (rate - other)) ** 2)


def crystals_for_difference(rate: float, difference: float, power: float = POWER) -> int:
    """Crystals of each model where one has `rate` and the other so much more or less: the larger of the two numbers.

    ValueError where neither is a rate.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"--rate {rate:g}: between 0 and 1")
    if not 0 < difference < 1:
        raise ValueError(f"--difference {difference:g}: more than 0 and less than 1")
    others = [other for other in (rate + difference, rate - difference) if 0 <= other <= 1]
    if not others:
        raise ValueError(f"--difference {difference:g}: no rate is so far from --rate {rate:g}")
    return max(crystals_for_rates(rate, other, power) for other in others)


def crystals_for_costs(rate: float, ratio: float, power: float = POWER) -> int:
    """Crystals of each model so that a stable one which costs `ratio` times as much is told to be dearer.

    At equal costs of a crystal, the costs of a stable one are as the inverse rates: rate and rate / ratio.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"--rate {rate:g}: a cost for each hit needs a rate above 0 and at most 1")
    if not (ratio > 1 and math.isfinite(ratio)):
        raise ValueError(f"--cost-ratio {ratio:g}: more than 1, such as 1.25 for a quarter dearer")
    return crystals_for_rates(rate, rate / ratio, power)
