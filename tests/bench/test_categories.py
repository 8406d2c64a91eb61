"""The Jensen-Shannon distance over categories, and the jackknife that gives its interval."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from bench.statistics import jackknife, jensen_shannon, jensen_shannon_floor


def one_each(values, categories):
    return np.eye(categories, dtype=int)[values]


def test_the_distance_is_scipys():
    rng = np.random.default_rng(0)
    members, reference = rng.integers(0, 3, (40, 12)), rng.integers(0, 5, 12)
    metric = jensen_shannon(members, reference)
    assert metric.value == pytest.approx(jensenshannon(members.sum(axis=0), reference, base=2)) and metric.n == 40


def test_the_interval_is_that_of_leaving_out_each_crystal():
    rng = np.random.default_rng(1)
    members, reference = rng.integers(0, 3, (30, 6)), rng.integers(1, 5, 6)
    without = [jensenshannon(members.sum(axis=0) - crystal, reference, base=2) for crystal in members]
    spread = 1.959964 * np.sqrt(29 / 30 * ((without - np.mean(without)) ** 2).sum())
    metric = jensen_shannon(members, reference)
    assert metric.high - metric.value == pytest.approx(spread, rel=1e-5)


@pytest.mark.parametrize(("n", "share"), [(50, 0.0), (250, 0.2), (250, 1.0)])
def test_the_interval_holds_the_mean_over_samples_of_that_size(n, share):
    """share: of the generator's crystals that come from another distribution."""
    rng = np.random.default_rng(2)
    reference, other = rng.dirichlet(np.full(60, 0.3), size=2)
    fixed = np.rint(10_000 * reference).astype(int)
    law = (1 - share) * fixed / fixed.sum() + share * other
    found = [jensen_shannon(one_each(rng.choice(60, n, p=law), 60), fixed) for _ in range(150)]
    expected = np.mean([metric.value for metric in found])
    covered = np.mean([metric.low <= expected <= metric.high for metric in found])
    assert covered >= 0.88  # nominal 0.95; 150 draws are exact to 0.03, few crystals of a far model are the worst


def test_the_floor_is_what_training_crystals_give():
    rng = np.random.default_rng(3)
    train, test = rng.integers(0, 50, 20), rng.integers(0, 50, 20)
    floor = jensen_shannon_floor(train, test, 100, seed=0)
    draws = [jensenshannon(rng.multinomial(100, train / train.sum()), test, base=2) for _ in range(1000)]
    assert floor.value == pytest.approx(np.median(draws), rel=0.05)
    assert (floor.low, floor.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), rel=0.1)


def test_what_is_empty_has_no_distance():
    assert jensen_shannon(np.zeros((0, 3), dtype=int), [1, 2, 3]).value is None
    assert jensen_shannon([[1, 0, 0]], [0, 0, 0]).value is None
    assert jensen_shannon_floor([1, 2], [1, 2], 0, seed=0).value is None


def test_counts_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        jensen_shannon([[1, 0]], [1, 2, 3])
    with pytest.raises(ValueError, match="whole numbers"):
        jensen_shannon([[0.5, 0.5]], [1, 2])


def test_one_crystal_has_a_figure_and_no_interval():
    assert jackknife(0.3, [0.0]) == jackknife(0.3, [0.7]) and jackknife(0.3, [0.0]).low is None
