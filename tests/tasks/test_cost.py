"""Cost metrics from batches and stable crystals."""

import numpy as np
import pyarrow as pa
import pytest

from bench.statistics import Metric, wilson
from tasks.cost import cost_metrics, costs_per_match, costs_per_stable

COLUMNS = ("start_s", "end_s", "num_crystals", "network_evaluations", "steps", "counted")
# Two counted batches of 10 and 30 crystals, 200 evaluations each, and one that ended after the deadline.
ROWS = [
    (0.0, 2.0, 10, 2000.0, 100, True),
    (2.0, 5.0, 30, 6000.0, 100, True),
    (5.0, 6.5, 10, 2000.0, 100, False),
]


def batches(rows=ROWS):
    types = [pa.float64(), pa.float64(), pa.int64(), pa.float64(), pa.int64(), pa.bool_()]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    return pa.table({name: pa.array(values, kind) for name, values, kind in zip(COLUMNS, columns, types, strict=True)})


def stable(hits, requested=40):
    return np.arange(requested) < hits


def test_costs_per_crystal_are_those_of_counted_batches():
    metrics = cost_metrics(batches(), 40)
    assert metrics["seconds_per_crystal"].value == pytest.approx(5.0 / 40)
    assert metrics["network_evaluations"] == Metric(200.0, 200.0, 200.0, 2)
    assert metrics["steps"] == Metric(100.0, n=40)
    assert metrics["counted_seconds"].value == 5.0
    assert metrics["sampling_seconds"].value == 6.5


def test_the_interval_of_seconds_per_crystal_is_students_over_the_logarithms_of_batches():
    rows = [(0.0, 2.0, 20, 4000.0, 100, True), (2.0, 6.5, 30, 6000.0, 100, True)]
    metric = cost_metrics(batches(rows), 50)["seconds_per_crystal"]
    reach = 12.7062 * (np.log(0.15) - np.log(0.1)) / 2  # two values: their distance is sqrt(2) standard deviations
    assert metric.n == 2
    assert metric.value == pytest.approx(0.13)
    assert metric.low == pytest.approx(0.13 * np.exp(-reach), rel=1e-4)
    assert metric.high == pytest.approx(0.13 * np.exp(reach), rel=1e-4)


def test_repeats_that_differ_widen_the_interval_of_seconds_per_crystal():
    rows = [(i * 2.0, i * 2.0 + 2.0, 20, 4000.0, 100, True) for i in range(3)]
    rows += [(i * 3.0, i * 3.0 + 3.0, 20, 4000.0, 100, True) for i in range(3)]
    table = batches(rows)
    pooled = cost_metrics(table, 120)["seconds_per_crystal"]
    repeats = pa.array([0, 0, 0, 1, 1, 1], pa.int64())
    apart = cost_metrics(table.append_column("repeat", repeats), 120)["seconds_per_crystal"]
    assert apart.value == pooled.value
    assert apart.high > pooled.high


def test_a_stable_crystal_costs_everything_spent_and_the_papers_steps():
    metrics = cost_metrics(batches(), 40, stable(4), scoring_seconds=13.5)
    assert metrics["evaluations_per_stable"].value == 10_000 / 4
    assert metrics["seconds_per_stable"].value == 6.5 / 4
    assert metrics["seconds_per_stable_end_to_end"].value == 20 / 4
    assert metrics["steps_per_stable"].value == pytest.approx(100 / (1000 * 0.1))


def test_steps_per_stable_is_the_papers_printed_figure():
    rows = [(0.0, 1.0, 1000, 200_000.0, 100, True)]
    metric = cost_metrics(batches(rows), 1000, stable(16, 1000))["steps_per_stable"]
    assert metric.value == 6.25  # CrysLDM on Perov-5 in the paper's table 1
    rate = wilson(16, 1000)
    assert (metric.low, metric.high) == (pytest.approx(0.1 / rate.high), pytest.approx(0.1 / rate.low))


def test_without_a_stable_crystal_costs_have_only_a_lower_bound():
    metrics = cost_metrics(batches(), 40, stable(0), scoring_seconds=1.0)
    for name in ("steps_per_stable", "evaluations_per_stable", "seconds_per_stable", "seconds_per_stable_end_to_end"):
        assert metrics[name].value is metrics[name].high is None
        assert metrics[name].low > 0
    assert metrics["seconds_per_stable"].low == pytest.approx(6.5 / (40 * (1 - 0.05 ** (1 / 40))))


def test_without_stability_costs_per_stable_crystal_are_undefined():
    metrics = cost_metrics(batches(), 40)
    assert {metrics[name] for name in metrics if "_per_stable" in name} == {Metric(None)}


def test_crystals_from_a_file_have_no_seconds_evaluations_or_steps():
    metrics = cost_metrics(batches([(None, None, 40, None, None, True)]), 40, stable(4), scoring_seconds=1.0)
    assert {metric.value for metric in metrics.values()} == {None}


def test_one_unknown_amount_makes_its_sum_unknown_and_no_other():
    rows = [ROWS[0], (2.0, 5.0, 30, None, 100, True)]
    metrics = cost_metrics(batches(rows), 40, stable(4))
    assert metrics["network_evaluations"].value is metrics["evaluations_per_stable"].value is None
    assert metrics["seconds_per_stable"].value == 5.0 / 4


def test_without_a_counted_batch_nothing_is_per_crystal_but_time_was_spent():
    metrics = cost_metrics(batches(ROWS[2:]), 0, stable(0, 0))
    assert metrics["seconds_per_crystal"].value is metrics["steps"].value is metrics["seconds_per_stable"].value is None
    assert metrics["sampling_seconds"].value == 1.5
    assert metrics["counted_seconds"].value == 0.0


def test_no_batches_at_all_are_no_error():
    metrics = cost_metrics(batches([]), 0)
    assert metrics["seconds_per_crystal"] == Metric(None)


def test_a_sampler_of_mixed_steps_has_their_mean_over_crystals():
    rows = [(0.0, 2.0, 10, 0.0, 10, True), (2.0, 5.0, 30, 0.0, 50, True)]
    assert cost_metrics(batches(rows), 40)["steps"].value == 40.0


def test_a_generator_without_a_network_has_no_evaluations_per_stable_crystal_but_zero():
    rows = [(0.0, 2.0, 40, 0.0, None, True)]
    metrics = cost_metrics(batches(rows), 40, stable(4))
    assert metrics["evaluations_per_stable"].value == 0.0
    assert metrics["steps_per_stable"].value is None


def test_a_second_potential_has_its_name_in_brackets():
    costs = costs_per_stable(batches(), stable(4), potential="m3gnet")
    assert costs["seconds_per_stable[m3gnet]"].value == 6.5 / 4


@pytest.mark.parametrize(("requested", "known"), [(41, None), (40, stable(1, 39))])
def test_what_does_not_belong_together_is_refused(requested, known):
    with pytest.raises(ValueError, match="crystals requested"):
        cost_metrics(batches(), requested, known)


def with_usage(**columns):
    table = batches()
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def test_the_undisturbed_share_is_of_the_seconds_of_counted_batches_of_which_it_is_known():
    share = cost_metrics(with_usage(disturbed=[False, True, True]), 40)["undisturbed_share"]
    assert (share.value, share.n) == (2.0 / 5.0, 2)
    share = cost_metrics(with_usage(disturbed=pa.array([None, True, False], pa.bool_())), 40)["undisturbed_share"]
    assert (share.value, share.n) == (0.0, 1)
    assert cost_metrics(batches(), 40)["undisturbed_share"] == Metric(None)  # a run of an earlier version


def test_memory_is_the_highest_peak_and_energy_that_of_all_batches_also_for_each_stable_crystal():
    table = with_usage(peak_memory_bytes=[5, 9, 7], energy_j=[3600.0, 1800.0, 1800.0])
    metrics = cost_metrics(table, 40, stable(4))
    assert metrics["peak_memory_bytes"].value == 9
    assert metrics["peak_memory_bytes_per_stable"].value == 9 / 4
    assert metrics["energy_wh"].value == 2.0
    assert metrics["energy_wh_per_stable"].value == 0.5
    assert metrics["peak_device_memory_bytes"].value is None


def test_energy_that_one_batch_does_not_say_is_not_known():
    metrics = cost_metrics(with_usage(energy_j=pa.array([1.0, None, 1.0], pa.float64())), 40, stable(4))
    assert metrics["energy_wh"].value is metrics["energy_wh_per_stable"].value is None


def test_a_match_costs_what_was_spent_until_each_composition_had_as_many_samples():
    two_batches = [(0.0, 2.0, 10, 10.0, 1, True), (2.0, 5.0, 10, 10.0, 1, True)]  # 8 compositions: 2.5 samples of each
    rates = {"match_rate": wilson(6, 8), "match_rate_1": wilson(4, 8), "match_rate_2": wilson(5, 8)}
    costs = costs_per_match(batches(two_batches), rates)
    assert costs["seconds_per_match"].value == pytest.approx(5.0 / 6)
    assert costs["seconds_per_match_1"].value == pytest.approx(0.8 * 2.0 / 4)
    assert costs["seconds_per_composition_2"].value == pytest.approx((2.0 + 0.6 * 3.0) / 8)


def test_a_match_has_no_cost_where_nobody_says_what_structures_took():
    unknown = [(None, None, 8, None, None, True)]
    costs = costs_per_match(batches(unknown), {"match_rate_1": wilson(4, 8)})
    assert costs["seconds_per_match_1"].value is None
