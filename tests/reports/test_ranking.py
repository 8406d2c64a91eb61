"""Ties are told from differences."""

from __future__ import annotations

from bench.statistics import Metric, difference_p_value, wilson
from reports.tables.ranking import rank


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


def test_many_models_are_compared_with_care() -> None:
    p = difference_p_value(wilson(962, 1000), wilson(941, 1000))
    assert 0.01 < p < 0.05
    assert rank([wilson(962, 1000), wilson(941, 1000)], "high") == ["best", ""]
    assert rank([wilson(960, 1000), *[wilson(941, 1000)] * 9], "high") == ["tied"] * 10
