"""Intervals cover what they claim to cover, and tests of differences keep their level."""

import json
import time

import numpy as np
import pytest
from scipy.stats import binomtest, norm, wasserstein_distance

from bench.statistics import (
    Metric,
    combine,
    cost_per_hit,
    differ,
    difference_p_value,
    emd,
    emd_floor,
    holm,
    mean,
    median,
    quotient,
    ratio_of_sums,
    seconds_per_crystal,
    wilson,
    wilson_bounds,
)

SKEWED = np.random.default_rng(100).gamma(4.0, 1.5, 4000)  # stands for the densities of a test split


def draw(rng, n, shift=0.0):
    return rng.gamma(4.0, 1.5, n) + shift


def covered(metric, truth):
    return metric.low <= truth <= metric.high


def test_a_metric_survives_json_with_exactly_its_four_keys():
    metric = Metric(np.float64(0.25), None, np.float32(0.5), np.int64(7))
    text = json.dumps(metric.to_json(), allow_nan=False)
    assert set(json.loads(text)) == {"value", "low", "high", "n"}
    assert Metric.from_json(json.loads(text)) == metric


@pytest.mark.parametrize("fields", [(float("nan"),), (0.0, float("-inf")), (0.0, 0.0, float("inf"))])
def test_a_metric_that_is_not_finite_is_refused(fields):
    with pytest.raises(ValueError, match="of a metric is"):
        Metric(*fields)


@pytest.mark.parametrize("data", [{}, {"value": 1.0}, {"value": 1, "low": 0, "high": 2, "n": 1, "unit": "s"}])
def test_json_with_other_keys_is_no_metric(data):
    with pytest.raises(ValueError, match="value, low, high and n"):
        Metric.from_json(data)


def test_wilson_gives_the_published_interval():
    """Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I: 81 of 263."""
    metric = wilson(81, 263)
    assert (metric.value, metric.n) == (81 / 263, 263)
    assert (metric.low, metric.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


def test_wilson_at_no_hits_all_hits_and_no_trials():
    none, all_of_them = wilson(0, 50), wilson(50, 50)
    assert none.value == none.low == 0
    assert 0 < none.high < 0.1
    assert all_of_them.value == all_of_them.high == 1
    assert all_of_them.low == pytest.approx(1 - none.high)
    assert wilson(0, 0) == Metric(None)


def test_wilsons_bounds_of_many_rates_are_scipys():
    hits, n = np.array([0, 1, 3, 49, 50, 0, 7]), np.array([50, 50, 50, 50, 50, 1, 100_000])
    expected = [binomtest(int(h), int(m)).proportion_ci(0.95, method="wilson") for h, m in zip(hits, n, strict=True)]
    np.testing.assert_allclose(np.transpose(wilson_bounds(hits, n)), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5)])
def test_impossible_hits_are_refused(hits, n):
    with pytest.raises(ValueError, match="must be between"):
        wilson(hits, n)


def test_a_cost_per_hit_is_the_cost_over_the_hits_with_the_rates_interval():
    rate, cost = wilson(16, 1000), cost_per_hit(2000.0, 16, 1000)
    assert cost.value == 125.0
    assert (cost.low, cost.high) == (pytest.approx(2 / rate.high), pytest.approx(2 / rate.low))


def test_a_cost_without_hits_has_only_the_one_sided_bound():
    cost = cost_per_hit(1000.0, 0, 1000)
    assert cost.value is None
    assert cost.high is None
    hits_at_the_bound = 1000.0 / cost.low
    assert (1 - hits_at_the_bound / 1000) ** 1000 == pytest.approx(0.05, rel=1e-6)  # no hit in 1000: 5 % chance
    assert cost_per_hit(1.0, 0, 0) == Metric(None)


def test_a_ratio_of_sums_covers_the_true_ratio():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(400):
        crystals = rng.integers(30, 60, 20)
        seconds = crystals * 0.3 + rng.exponential(2.0, 20)
        hits += covered(ratio_of_sums(seconds, crystals, seed), 0.3 + 2.0 / 44.5)
    assert 0.87 <= hits / 400 <= 0.99  # few skewed batches, more so than real ones


def test_a_ratio_of_sums_without_spread_without_pairs_and_with_one():
    equal = ratio_of_sums([2.0, 2.0, 2.0], [8, 8, 8], seed=0)
    assert equal.value == equal.low == equal.high == 0.25
    assert ratio_of_sums([], [], seed=0) == Metric(None)
    assert ratio_of_sums([0.0], [0], seed=0) == Metric(None, n=1)
    assert ratio_of_sums([1.0], [4], seed=0) == Metric(0.25, n=1)


def test_equal_batches_have_an_interval_without_width():
    metric = ratio_of_sums([5000.0] * 10, [25.0] * 10)
    assert metric.low == metric.value == metric.high == 200.0


def test_batches_that_took_no_time_at_all_have_an_interval_too():
    assert seconds_per_crystal([0.0, 0.0], [4, 4], seed=0) == Metric(0.0, 0.0, 0.0, 2)
    some = seconds_per_crystal([0.0, 4.0, 4.0], [4, 4, 4], seed=0)
    assert some.low == 0.0 < some.value < some.high


def test_a_small_rest_at_the_end_counts_in_the_time_but_does_not_widen_its_interval():
    seconds, crystals = [5.0, 5.1, 4.9, 5.0], [50, 50, 50, 50]
    whole = seconds_per_crystal(seconds, crystals, seed=0)
    with_rest = seconds_per_crystal([*seconds, 1.2], [*crystals, 3], seed=0)
    assert with_rest.value == pytest.approx(21.2 / 203)
    assert with_rest.high / with_rest.value == pytest.approx(whole.high / whole.value)


def test_starts_that_differ_by_more_than_their_batches_widen_the_interval():
    seconds, crystals = [5.0, 5.1, 4.9, 6.0, 6.1, 5.9], [50] * 6
    pooled = seconds_per_crystal(seconds, crystals, seed=0)
    by_start = seconds_per_crystal(seconds, crystals, seed=0, repeats=[0, 0, 0, 1, 1, 1])
    assert by_start.value == pooled.value
    assert by_start.low < pooled.low < pooled.high < by_start.high


@pytest.mark.parametrize("n", [7, 40, 201])
def test_the_medians_interval_covers_it(n):
    rng = np.random.default_rng(n)
    hits = sum(covered(median(rng.exponential(1.0, n)), np.log(2)) for _ in range(600))
    assert 0.93 <= hits / 600 <= 0.995


def test_the_median_of_few_has_no_interval():
    assert median([3.0, 1.0, 2.0]) == Metric(2.0, None, None, 3)
    assert median([]) == Metric(None)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.15, 0.5])
@pytest.mark.parametrize("n", [60, 500])
def test_the_interval_of_a_distance_covers_it_at_the_floor_and_off_it(n, shift):
    """150 samples each: with a coverage of 95 %, below 90 % in one of 250 such tests."""
    rng = np.random.default_rng([n, round(100 * shift)])
    truth = wasserstein_distance(draw(rng, 400_000, shift), SKEWED)
    hits = sum(covered(emd(draw(rng, n, shift), SKEWED, seed), truth) for seed in range(150))
    assert hits / 150 >= 0.9


def test_the_interval_of_a_distance_between_counts_covers_it():
    rng = np.random.default_rng(1)
    reference = rng.choice([2, 3, 4, 5], 3000, p=[0.02, 0.2, 0.7, 0.08])
    population = rng.choice([2, 3, 4, 5], 400_000, p=[0.03, 0.2, 0.68, 0.09])
    truth = wasserstein_distance(population, reference)
    hits = sum(covered(emd(rng.choice(population, 300), reference, seed), truth) for seed in range(200))
    assert hits / 200 >= 0.9


def test_far_from_the_floor_the_interval_is_no_wider_than_it_need_be():
    rng = np.random.default_rng(2)
    values = [wasserstein_distance(draw(rng, 400, 2.0), SKEWED) for _ in range(300)]
    widths = [metric.high - metric.low for metric in (emd(draw(rng, 400, 2.0), SKEWED, seed) for seed in range(20))]
    assert np.median(widths) < 1.3 * 2 * 1.96 * np.std(values)


def test_the_value_is_scipys_and_lies_in_its_interval():
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 50, 700):
        sample = draw(rng, n, rng.uniform(-1, 1))
        metric = emd(sample, SKEWED, seed=0)
        assert metric.value == pytest.approx(wasserstein_distance(sample, SKEWED), rel=1e-12)
        assert metric.n == n
        if n > 1:
            assert 0 <= metric.low <= metric.value <= metric.high


def test_distances_of_nothing_and_of_one_value():
    assert emd([], SKEWED, seed=0) == Metric(None)
    assert emd([1.0, 2.0], [], seed=0) == Metric(None)
    assert emd([1.0], [3.0], seed=0) == Metric(2.0, None, None, 1)
    assert emd([2.0] * 9, [2.0] * 4, seed=0) == Metric(0.0, 0.0, 0.0, 9)


def test_a_distance_refuses_values_that_are_not_finite():
    with pytest.raises(ValueError, match="1 values not finite"):
        emd([1.0, float("nan")], SKEWED, seed=0)


def test_large_samples_are_thinned_in_the_resampling_only():
    sample = draw(np.random.default_rng(4), 30_000, 0.3)
    metric = emd(sample, SKEWED, seed=0)
    assert metric.value == pytest.approx(wasserstein_distance(sample, SKEWED), rel=1e-12)
    standard_error = np.std(sample) / np.sqrt(len(sample))  # of a shift, which is what this distance is
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * standard_error, rel=0.3)


def test_the_floor_is_what_random_training_crystals_give():
    rng = np.random.default_rng(5)
    train, test = draw(rng, 3000), draw(rng, 1000)
    floor = emd_floor(train, test, n=200, seed=0)
    drawn = [wasserstein_distance(rng.choice(train, 200), test) for _ in range(600)]
    assert floor.value == pytest.approx(np.median(drawn), rel=0.07)
    assert floor.low == pytest.approx(np.quantile(drawn, 0.025), rel=0.12)
    assert floor.high == pytest.approx(np.quantile(drawn, 0.975), rel=0.15)
    assert emd_floor(train, test, n=0, seed=0) == Metric(None)


def test_the_floor_falls_with_the_number_of_crystals_to_the_distance_of_the_splits():
    rng = np.random.default_rng(6)
    train, test = rng.choice([2, 3, 4, 5], 3000), rng.choice([2, 3, 4, 5], 1000)
    floors = [emd_floor(train, test, n, seed=0).value for n in (30, 300, 3000, 3_000_000)]
    assert floors == sorted(floors, reverse=True)
    assert floors[-1] == pytest.approx(wasserstein_distance(train, test), rel=0.02)


def test_seeds_decide_everything_and_global_random_state_nothing():
    sample = draw(np.random.default_rng(7), 100)
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = emd(sample, SKEWED, seed=3), emd_floor(SKEWED, sample, 50, seed=3), ratio_of_sums([1, 2], [1, 1], 3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    again = emd(sample, SKEWED, seed=3), emd_floor(SKEWED, sample, 50, seed=3), ratio_of_sums([1, 2], [1, 1], 3)
    assert first == again
    assert emd(sample, SKEWED, seed=4) != first[0]


def test_a_thousand_resamples_of_a_thousand_crystals_take_a_fraction_of_a_second():
    sample = draw(np.random.default_rng(8), 1000)
    emd(sample, SKEWED, seed=0)
    start = time.perf_counter()
    emd(sample, SKEWED, seed=0)
    assert time.perf_counter() - start < 1.0


def test_equal_distances_are_rarely_called_different_also_for_unequal_numbers_of_crystals():
    rng = np.random.default_rng(9)
    for sizes, shift in (((400, 400), 0.0), ((40, 400), 0.0), ((300, 300), 0.6)):
        pairs = [[emd(draw(rng, n, shift), SKEWED, seed) for n in sizes] for seed in range(100)]
        assert np.mean([differ(*pair) for pair in pairs]) <= 0.11  # 5 %: above it once in 200


def test_different_distances_are_found_in_either_order():
    rng = np.random.default_rng(10)
    near, far = (emd(draw(rng, 500, shift), SKEWED, seed=0) for shift in (0.0, 1.5))
    assert difference_p_value(near, far) == difference_p_value(far, near) < 0.001


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_equal_rates_are_called_different_about_as_often_as_promised(p):
    rng = np.random.default_rng(0)
    draws = rng.binomial(400, p, (4000, 2))
    rates = {hits: wilson(hits, 400) for hits in np.unique(draws).tolist()}
    called = [difference_p_value(rates[a], rates[b]) < 0.05 for a, b in draws.tolist()]
    assert 0.02 < np.mean(called) < 0.065


def test_equal_normal_figures_are_called_different_in_five_percent():
    rng = np.random.default_rng(1)
    half = norm.ppf(0.975) * np.array([0.1, 0.3])
    means = rng.normal(1.0, [0.1, 0.3], (4000, 2))
    called = [
        difference_p_value(*(Metric(m, m - h, m + h, 9) for m, h in zip(row, half, strict=True))) < 0.05
        for row in means
    ]
    assert 0.04 < np.mean(called) < 0.06


def test_newcombes_interval_of_a_difference_is_the_published_one():
    """Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, table II, method 10:
    56/70 - 48/80 has 0.0524 to 0.3339, 9/10 - 3/10 has 0.1705 to 0.8090; both are beyond noise.
    """
    assert differ(wilson(56, 70), wilson(48, 80))
    assert differ(wilson(9, 10), wilson(3, 10))
    lower, upper = wilson(48, 80), wilson(56, 70)
    below = upper.value - lower.value - np.hypot(lower.high - lower.value, upper.value - upper.low)
    assert below == pytest.approx(0.0524, abs=5e-5)
    shifted = Metric(*(x + below for x in (lower.value, lower.low, lower.high)))
    assert difference_p_value(shifted, upper) == pytest.approx(0.05)  # that far apart, and no closer, they could be


def test_a_figure_without_an_interval_is_exact_and_one_without_a_value_has_no_difference():
    assert difference_p_value(Metric(100, n=5), Metric(100, n=5)) == 1.0
    assert difference_p_value(Metric(100, n=5), Metric(101, n=5)) == 0.0
    assert differ(Metric(0.5), wilson(30, 100))
    assert not differ(Metric(0.5), wilson(45, 100))
    with pytest.raises(ValueError, match="undefined"):
        difference_p_value(Metric(None, 3.0), wilson(1, 2))


@pytest.mark.parametrize("hits", [(16, 150), (25, 300)])
def test_the_interval_of_a_quotient_of_costs_covers_the_true_one(hits):
    rng = np.random.default_rng(0)
    truth = hits[1] / hits[0]
    found = [
        quotient(cost_per_hit(1.0, few, 1000), cost_per_hit(1.0, many, 1000))
        for few, many in rng.binomial(1000, np.array(hits) / 1000, (400, 2))
    ]
    assert np.mean([covered(metric, truth) for metric in found]) == pytest.approx(0.95, abs=0.025)


def test_a_quotient_turned_round_has_the_interval_turned_round():
    a, b = Metric(6.0, 4.0, 10.0), Metric(2.0, 1.5, 2.2)
    one, other = quotient(a, b), quotient(b, a)
    assert one.value == 3
    assert (1 / other.high, 1 / other.low) == pytest.approx((one.low, one.high))
    assert quotient(a, Metric(2.0)) == Metric(3.0, 2.0, 5.0)  # exact


def test_the_quotient_of_a_cost_without_a_hit_is_a_bound():
    never, known = cost_per_hit(1.0, 0, 100), Metric(2.0, 1.0, 4.0, 100)
    assert quotient(never, known) == Metric(None, never.low / 4, None, 100)
    assert quotient(known, never) == Metric(None, None, 4 / never.low, 100)
    assert quotient(Metric(None), known) == Metric(None)


def test_holms_correction_is_the_published_step_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("repeats", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.04])
def test_the_interval_of_repeats_covers_with_and_without_a_spread_between_them(repeats, spread):
    """The rate of a repeat is itself drawn (another training, a drifting device), then 200 crystals of it."""
    rng = np.random.default_rng(11)
    truth, hits = 0.85, 0
    for _ in range(600):
        rates = np.clip(rng.normal(truth, spread, repeats), 0, 1)
        hits += covered(combine([wilson(rng.binomial(200, p), 200) for p in rates], most=1.0), truth)
    assert hits / 600 >= 0.92  # 95 %: below it once in 2000


def test_pooling_the_repeats_would_not_cover_a_spread_between_them():
    rng = np.random.default_rng(12)
    pooled = [wilson(sum(rng.binomial(200, np.clip(rng.normal(0.85, 0.04, 3), 0, 1))), 600) for _ in range(600)]
    assert np.mean([covered(metric, 0.85) for metric in pooled]) < 0.8


def test_models_that_differ_only_by_the_spread_of_their_repeats_are_ties():
    rng = np.random.default_rng(13)

    def figure():
        return combine([wilson(rng.binomial(200, p), 200) for p in np.clip(rng.normal(0.85, 0.04, 3), 0, 1)], most=1.0)

    assert np.mean([differ(figure(), figure()) for _ in range(400)]) <= 0.07


def test_a_mean_has_student_s_interval_of_figures_that_are_not_below_zero():
    found = mean([0.1, 0.2, 0.3])
    assert found.value == pytest.approx(0.2)
    assert found.high == pytest.approx(0.2 + 4.302653 * 0.1 / 3**0.5, rel=1e-6)
    assert found.low == 0.0
    assert mean([]) == Metric(None)
    assert mean([0.1]) == Metric(0.1, n=1)
