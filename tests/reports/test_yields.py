"""Yield curves as statistics: counts, intervals that cover, expected costs, crossings."""

from __future__ import annotations

import numpy as np
import pytest

from reports.yields.curves import Repeat, YieldCurve, lead


def repeat(
    ends: list[float], hits: list[int], size: int = 10, spent: float | None = None, until: float = 0.0
) -> Repeat:
    last = ends[-1] if ends else 0.0
    return Repeat(
        np.array(ends, dtype=float),
        np.full(len(ends), size),
        np.array(hits, dtype=np.int64),
        last if spent is None else spent,
        max(last, until),
    )


def curve(*repeats: Repeat, method: str = "a") -> YieldCurve:
    return YieldCurve(method, "valid", "seconds", repeats, seed=0)


def random_repeat(
    rng: np.random.Generator, rate: float, batches: int, size: int = 20, spread: float = 0.0, drift: float = 0.0
) -> Repeat:
    """Batches of about a second; spread: of the rate between batches, drift: of the speed between repeats."""
    rates = np.clip(rng.normal(rate, spread, batches), 0, 1)
    seconds = rng.uniform(0.8, 1.2, batches) * np.exp(rng.normal(0, drift))
    return repeat(np.cumsum(seconds).tolist(), rng.binomial(size, rates).tolist(), size)


def test_a_crystal_is_there_when_its_batch_has_ended() -> None:
    one = curve(repeat([2.0, 4.0, 7.0], [3, 0, 5], until=10.0))
    assert one.counts(np.array([0.0, 1.99, 2.0, 6.99, 7.0, 10.0])).tolist() == [0, 0, 3, 3, 8, 8]
    assert one.until == 10.0
    reading = one.readings([4.0])[0]
    assert (reading.value, reading.n) == (3, 20)
    assert reading.low is not None and reading.high is not None
    assert reading.low < 3 < reading.high


def test_repeats_are_averaged_as_far_as_all_are_known() -> None:
    both = curve(repeat([2.0, 4.0], [3, 1]), repeat([3.0, 5.0], [5, 1]))
    assert both.until == 4.0
    assert both.counts(np.array([1.0, 2.0, 3.5, 4.0])).tolist() == [0, 1.5, 4, 4.5]
    assert both.events.tolist() == [2.0, 3.0, 4.0]
    assert both.grid[0] == 3.0  # before, one of them has nothing
    assert both.readings([2.5])[0].low is None


def test_a_reading_depends_on_no_later_batch() -> None:
    rng = np.random.default_rng(0)
    longer = random_repeat(rng, 0.3, 40)
    shorter = repeat(longer.ends[:15].tolist(), longer.hits[:15].tolist(), 20)
    at = float(shorter.ends[-1])
    whole, part = curve(longer).readings([at])[0], curve(shorter).readings([at])[0]
    assert (whole.value, whole.n) == (part.value, part.n)
    assert whole.low == pytest.approx(part.low, rel=0.1)  # another stream of random numbers
    assert whole.high == pytest.approx(part.high, rel=0.1)


@pytest.mark.parametrize(
    ("rate", "batches", "spread"),
    [(0.9, 30, 0.0), (0.9, 5, 0.0), (0.02, 20, 0.0), (0.002, 30, 0.0), (0.5, 30, 0.25), (0.5, 8, 0.25)],
)
def test_bands_of_one_repeat_cover_the_expected_number(rate: float, batches: int, spread: float) -> None:
    """Also where hits are rare, where there are none, and where crystals of one batch resemble each other."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        one = random_repeat(rng, rate, batches, spread=spread)
        reading = curve(one).readings([float(one.ends[-1])])[0]
        assert reading.low is not None and reading.high is not None
        covered.append(reading.low <= 20 * rate * one.ends[-1] <= reading.high)
    assert np.mean(covered) >= 0.9


def test_bands_of_repeats_cover_a_device_that_is_not_always_as_fast() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        repeats = [random_repeat(rng, 0.4, 20, drift=0.2) for _ in range(3)]
        one = curve(*repeats)
        reading = one.readings([one.until])[0]
        assert reading.low is not None and reading.high is not None
        covered.append(reading.low <= 20 * 0.4 * np.exp(0.2**2 / 2) * one.until <= reading.high)
    assert np.mean(covered) >= 0.9


def test_no_hit_has_an_upper_bound_that_falls_with_what_was_spent() -> None:
    few, many = (curve(repeat(list(range(1, n + 1)), [0] * n)).readings([float(n)])[0] for n in (5, 50))
    assert few.low == many.low == 0
    assert few.high == pytest.approx(3.84 * 50 / 53.84, rel=0.01)  # Wilson's, of 50 crystals
    assert many.high == pytest.approx(3.84, rel=0.02)


def test_many_batches_are_resampled_in_blocks_to_the_same_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    one = random_repeat(rng, 0.4, 1500, spread=0.2)
    at = [float(one.ends[place]) for place in (20, 400, 1499)]
    blocks = curve(one).readings(at)
    monkeypatch.setattr("reports.yields.curves.SINGLE_BATCHES", 10_000)
    singly = curve(one).readings(at)
    for ours, exact in zip(blocks, singly, strict=True):
        assert ours.value == exact.value
        assert exact.low is not None and exact.high is not None
        width = exact.high - exact.low
        assert ours.low == pytest.approx(exact.low, abs=0.15 * width)
        assert ours.high == pytest.approx(exact.high, abs=0.15 * width)


def test_the_expected_cost_of_a_crystal_is_all_that_was_spent_over_all_that_were_found() -> None:
    """Also what the batch after the deadline took, and a repeat that found nothing."""
    one = curve(repeat([2.0, 4.0], [3, 1], spent=5.0), repeat([3.0], [0], spent=7.0))
    first, tenth = one.expected_cost(1), one.expected_cost(10)
    assert first.value == pytest.approx(12 / 4)
    assert tenth.value == pytest.approx(120 / 4)
    assert first.low is not None
    assert first.low < 3


def test_without_a_hit_the_expected_cost_has_only_a_lower_bound() -> None:
    first = curve(repeat([2.0, 4.0], [0, 0], spent=5.0), repeat([4.0], [0])).expected_cost(1)
    assert first.value is first.high is None
    assert first.low == pytest.approx(9.0 / (30 * (1 - 0.05 ** (1 / 30))))  # Clopper and Pearson, 0 of 30


def test_the_interval_of_the_expected_cost_covers() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(200):
        found = curve(random_repeat(rng, 0.03, 30)).expected_cost(1)
        high = np.inf if found.high is None else found.high
        covered.append(found.low is not None and found.low <= 1 / (20 * 0.03) <= high)
    assert np.mean(covered) >= 0.9


def test_the_cost_that_was_seen_counts_repeats_that_never_came_so_far() -> None:
    """Hansen et al. 2009: all evaluations until the target, of unsuccessful trials all, over the successful ones."""
    three = curve(repeat([2.0, 4.0], [0, 2]), repeat([3.0, 6.0], [1, 0], spent=8.0), repeat([5.0], [0]))
    assert three.observed_cost(1) == (pytest.approx((4 + 3 + 5) / 2), 2)
    assert three.observed_cost(2) == (pytest.approx(4 + 8 + 5), 1)
    assert three.observed_cost(3) == (None, 0)


def test_curves_cross_where_another_model_comes_to_lead() -> None:
    slow_start = curve(repeat([5.0, 6.0, 7.0, 8.0], [10, 10, 10, 10]), method="late")
    steady = curve(repeat([1.0, 3.0, 5.0, 7.0], [6, 6, 6, 6]), method="early")
    found = lead(slow_start, steady)
    assert found.leader == "late"
    assert found.changes == (1.0, 6.0)  # 6 to 0, then 20 to 18
    assert lead(steady, slow_start).changes == found.changes


def test_a_lead_is_beyond_noise_only_where_it_stays_so() -> None:
    rng = np.random.default_rng(5)
    good, bad = (curve(random_repeat(rng, rate, 60), method=str(rate)) for rate in (0.6, 0.4))
    found = lead(good, bad)
    assert found.leader == "0.6"
    assert found.sure_from is not None and found.changes[-1] <= found.sure_from < good.until
    equal = [lead(*(curve(random_repeat(rng, 0.4, 30), method=name) for name in "ab")) for _ in range(60)]
    assert np.mean([one.sure_from is not None for one in equal]) < 0.15


def test_models_without_a_crystal_do_not_lead() -> None:
    nothing = curve(repeat([1.0, 2.0], [0, 0]))
    assert lead(nothing, nothing).leader is None
    assert lead(nothing, nothing).changes == ()
    assert lead(nothing, curve(repeat([], [], spent=9.0, until=2.0), method="never")).leader is None
    assert lead(nothing, curve(repeat([1.5], [4]), method="some")).leader == "some"


def test_a_model_whose_batches_all_ended_too_late_has_a_curve_at_zero() -> None:
    never = curve(repeat([], [], spent=9.0, until=5.0))
    assert never.readings([5.0])[0].value == 0
    assert never.readings([5.0])[0].high is None
    assert len(never.grid) == 0
    assert never.expected_cost(1).value is never.expected_cost(1).low is None
