"""Ties are told from differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bench.statistics import Metric, wilson
from reports.ranking import difference_p_value, rank


def test_a_difference_beyond_noise_makes_one_best() -> None:
    assert rank([wilson(990, 1000), wilson(900, 1000), wilson(800, 1000)], "high") == ["best", "", ""]
    assert rank([wilson(990, 1000), wilson(900, 1000), wilson(800, 1000)], "low") == ["", "", "best"]


def test_a_difference_within_noise_is_a_tie() -> None:
    assert rank([wilson(978, 1000), wilson(981, 1000), wilson(800, 1000)], "high") == ["tied", "tied", ""]


def test_equal_figures_tie_even_without_any_spread() -> None:
    assert rank([Metric(0.1, 0.1, 0.1, 5), Metric(0.1, 0.1, 0.1, 5)], "low") == ["tied", "tied"]


def test_exact_figures_that_differ_do_not_tie() -> None:
    assert rank([Metric(0.1, 0.1, 0.1, 5), Metric(0.2, 0.2, 0.2, 5)], "low") == ["best", ""]


def test_figures_without_value_or_interval_take_no_part() -> None:
    column = [None, Metric(None, 3.0, None, 9), Metric(0.5), wilson(5, 10)]
    assert rank(column, "high") == ["", "", "", ""]
    assert rank([*column, wilson(9, 10)], "high") == ["", "", "", "tied", "tied"]


def test_no_hits_among_many_is_worse_than_many_hits() -> None:
    assert rank([wilson(0, 1000), wilson(50, 1000)], "high") == ["", "best"]
    assert rank([wilson(0, 10), wilson(1, 10)], "high") == ["tied", "tied"]


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_equal_rates_are_called_different_about_as_often_as_promised(p: float) -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(400, p, (4000, 2))
    rates = {hits: wilson(hits, 400) for hits in np.unique(draws).tolist()}
    called = [difference_p_value(rates[a], rates[b]) < 0.05 for a, b in draws.tolist()]
    assert 0.02 < np.mean(called) < 0.065


def test_equal_normal_figures_are_called_different_in_five_percent() -> None:
    rng = np.random.default_rng(1)
    half = norm.ppf(0.975) * np.array([0.1, 0.3])
    means = rng.normal(1.0, [0.1, 0.3], (4000, 2))
    called = [
        difference_p_value(*(Metric(m, m - h, m + h, 9) for m, h in zip(row, half, strict=True))) < 0.05
        for row in means
    ]
    assert 0.04 < np.mean(called) < 0.06


def test_many_models_are_compared_with_care() -> None:
    p = difference_p_value(wilson(962, 1000), wilson(941, 1000))
    assert 0.01 < p < 0.05
    assert rank([wilson(962, 1000), wilson(941, 1000)], "high") == ["best", ""]
    assert rank([wilson(960, 1000), *[wilson(941, 1000)] * 9], "high") == ["tied"] * 10


def test_figures_without_an_interval_are_not_compared() -> None:
    with pytest.raises(ValueError, match="interval"):
        difference_p_value(Metric(0.5, n=9), wilson(1, 2))
