from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.budget import (
    BatchPlanner,
    Budget,
    MonotonicClock,
    device_clock,
    parse_duration,
    predicted_seconds,
    timed_batch_size,
)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (" .5 m ", 30)])
def test_durations_are_numbers_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "0s", "-5m", "1d", "1m30s", "nan s", "", "1e3s"])
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s, 10m or 1.5h"):
        parse_duration(text)


def test_a_budget_is_one_of_two() -> None:
    for arguments in ((None, None), (10, 60.0)):
        with pytest.raises(ValueError, match="either"):
            Budget(*arguments)
    with pytest.raises(ValueError, match="at least 1"):
        Budget(num_samples=0)
    assert Budget(**Budget(seconds=60.0).to_json()) == Budget(seconds=60.0)


def test_a_number_of_crystals_is_cut_into_full_batches_and_a_rest() -> None:
    planner, sizes = BatchPlanner(Budget(num_samples=23), 10), []
    while size := planner.next_size(sum(sizes), 1e9):
        sizes.append(size)
    assert sizes == [10, 10, 3]


@pytest.mark.parametrize(("overhead", "per_crystal"), [(0.0, 0.45), (3.0, 0.24), (0.5, 0.004), (2.0, 0.0)])
@pytest.mark.parametrize("budget", [60.0, 600.0])
def test_the_last_batch_ends_near_the_deadline(overhead: float, per_crystal: float, budget: float) -> None:
    """A batch of n takes overhead + n per_crystal, 3 % more or less, as samplers with a fixed cost a step do."""
    rng = np.random.default_rng(0)
    planner = BatchPlanner(Budget(seconds=budget), 50)
    planner.measured(1, 1.5 * (overhead + per_crystal))  # the warm-up
    done, now = 0, 0.0
    while size := planner.next_size(done, now):
        took = (overhead + size * per_crystal) * rng.uniform(0.97, 1.03)
        planner.measured(size, took)
        now += took
        done += size
        if not planner.counts(now):
            break
    assert now < 1.03 * budget
    assert now > budget - 1.5 * (overhead + per_crystal) - 0.05 * budget


def spend(planner: BatchPlanner, seconds: Callable[[int], float]) -> tuple[float, list[int]]:
    """When the last batch ended, and all sizes. seconds: what a batch of a size takes."""
    done, now, sizes = 0, 0.0, []
    while size := planner.next_size(done, now):
        took = seconds(size)
        planner.measured(size, took)
        now, done = now + took, done + size
        sizes.append(size)
        if not planner.counts(now):
            break
    return now, sizes


@pytest.mark.parametrize(("overhead", "per_crystal"), [(0.02, 0.4), (0.1, 0.1), (0.1, 0.02), (0.0, 0.2)])
def test_overshoot_stays_below_three_percent_of_a_minute_on_a_machine_that_is_not_quiet(
    overhead: float, per_crystal: float
) -> None:
    """Batches take 10 % more or less, and one in twenty twice as long, when something else runs."""
    rng = np.random.default_rng(1)
    late, spent = [], []
    for _ in range(100):
        planner = BatchPlanner(Budget(seconds=60.0), 50)
        for size in (1, 8):
            planner.measured(size, overhead + size * per_crystal)
        planner.calibrate()

        def took(size: int) -> float:
            return (overhead + size * per_crystal) * rng.uniform(0.9, 1.1) * (2 if rng.random() < 0.05 else 1)

        end, sizes = spend(planner, took)
        late.append(max(0.0, end - 60.0))
        spent.append(end)
        assert len(sizes) >= 25
    assert np.mean(np.array(late) < 0.03 * 60) >= 0.97
    assert np.mean(late) < 0.005 * 60
    assert np.median(spent) > 0.97 * 60


@pytest.mark.parametrize(
    ("overhead", "per_crystal", "seconds", "size"),
    [
        (0.0, 0.4, 60.0, 3),  # 1.2 s of the 1.5 that a fortieth is
        (0.0, 0.4, 10.0, 1),
        (0.0, 0.02, 60.0, 50),  # the model's own size is quick enough
        (0.2, 0.4, 60.0, 6),  # 3 would do, but a crystal would cost 16 % more
        (5.0, 0.1, 60.0, 50),
    ],
)
def test_a_budget_of_seconds_chooses_a_batch_that_is_short_but_not_wasteful(
    overhead: float, per_crystal: float, seconds: float, size: int
) -> None:
    planner = BatchPlanner(Budget(seconds=seconds), 50)
    for known in (1, 8):
        planner.measured(known, overhead + known * per_crystal)
    planner.calibrate()
    assert planner.batch_size == size


def test_one_size_alone_tells_nothing_about_smaller_batches() -> None:
    planner = BatchPlanner(Budget(seconds=60.0), 50)
    planner.measured(1, 10.0)
    planner.calibrate()
    assert planner.batch_size == 50
    assert planner.next_size(0, 0.0) == 5


def test_a_number_of_crystals_keeps_the_planners_batch_size() -> None:
    planner = BatchPlanner(Budget(num_samples=200), 50)
    planner.measured(1, 10.0)
    planner.calibrate()
    assert planner.next_size(0, 0.0) == 50


def test_a_budget_end_to_end_begins_with_a_few_crystals_and_learns_what_scoring_takes() -> None:
    """Sampling takes 0.02 s a crystal, scoring 1 to 3 s: only the latter decides."""
    rng = np.random.default_rng(2)
    ends, first = [], []
    for _ in range(100):
        planner = BatchPlanner(Budget(seconds=600.0, covers="end-to-end"), 50)
        planner.measured(1, 0.02)
        done, now, sizes = 0, 0.0, []
        while size := planner.next_size(done, now):
            scoring = rng.uniform(1, 3, size).sum()
            planner.measured(size, 0.02 * size, scoring)
            now, done = now + 0.02 * size + scoring, done + size
            sizes.append(size)
            if not planner.counts(now):
                break
        ends.append(now)
        first.append(sizes[0])
        assert max(sizes) <= 30
    assert set(first) == {4}
    assert np.mean(np.array(ends) < 1.03 * 600) >= 0.97
    assert np.median(ends) > 0.97 * 600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 10, "covers": "end-to-end"}, "needs --budget"),
        ({"seconds": 10.0, "covers": "everything"}, "known are sampling, end-to-end"),
    ],
)
def test_what_a_budget_covers_is_one_of_two_and_takes_seconds(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**arguments)


def test_a_budget_end_to_end_is_the_same_again_from_the_manifest() -> None:
    budget = Budget(seconds=60.0, covers="end-to-end")
    assert Budget(**budget.to_json()) == budget
    assert Budget(seconds=60.0).to_json() == {"seconds": 60.0}
    assert str(budget) == "60 seconds of sampling and scoring"


def test_a_model_that_needs_more_than_the_budget_gets_one_crystal() -> None:
    planner = BatchPlanner(Budget(seconds=1.0), 50)
    planner.measured(1, 100.0)
    assert planner.next_size(0, 0.0) == 1
    assert not planner.counts(100.0)
    assert planner.next_size(1, 100.0) == 0


def test_predictions_go_through_measured_points_and_never_fall() -> None:
    points = [(1, 2.0), (50, 12.0)]
    assert predicted_seconds(points, 1) == 2.0
    assert predicted_seconds(points, 50) == 12.0
    assert predicted_seconds(points, 25) == pytest.approx(2 + 10 * 24 / 49)
    assert predicted_seconds(points, 100) == pytest.approx(12 + 10 * 50 / 49)
    assert predicted_seconds([(1, 5.0), (50, 4.0)], 100) == 4.0
    assert predicted_seconds([(10, 5.0)], 2) == 5.0
    assert predicted_seconds([(10, 5.0)], 20) == 10.0
    assert predicted_seconds([], 7) == 0.0


def test_the_clock_of_a_cpu_can_be_any_function() -> None:
    now = iter([10.0, 12.5])
    clock = MonotonicClock(lambda: next(now))
    clock.start()
    assert clock.stop() == 2.5


def test_the_clock_of_a_gpu_waits_for_the_work() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clock = device_clock("cuda")
    matrix = torch.randn(4096, 4096, device="cuda")
    for _ in range(3):
        clock.start()
        for _ in range(50):
            matrix @ matrix
        many = clock.stop()
        clock.start()
        matrix @ matrix
        one = clock.stop()
    assert 20 < many / one < 80


def test_the_cost_of_many_crystals_is_told_from_batches_of_two_sizes() -> None:
    planner = BatchPlanner(Budget(num_samples=250), 50)
    assert planner.predicted(1000) == 0.0
    for size in (1, 8):
        planner.measured(size, 2.0 + 0.1 * size)
    assert planner.predicted(1000) == pytest.approx(20 * (2.0 + 5.0))
    assert planner.predicted(120) == pytest.approx(2 * (2.0 + 5.0) + 2.0 + 2.0)


@pytest.mark.parametrize(
    ("budget", "own", "size"),
    [
        (Budget(num_samples=1000), 50, 50),
        (Budget(num_samples=250), 50, 25),
        (Budget(num_samples=1000), 500, 100),
        (Budget(num_samples=250), 16, 16),
        (Budget(num_samples=64), 50, 50),
        (Budget(seconds=60.0), 50, 50),
    ],
)
def test_250_crystals_or_more_are_at_least_ten_batches(budget: Budget, own: int, size: int) -> None:
    assert timed_batch_size(own, budget) == size
