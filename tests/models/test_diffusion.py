"""Schedules and the wrapped normal: limits, identities and derivatives."""

import itertools
import math

import pytest
import torch

from models.diffusion import (
    SeededNoise,
    StepSchedule,
    add_noise,
    coord_schedule,
    cosine_schedule,
    exponential_sigmas,
    implied_noise,
    perturb_coords,
    predicted_clean,
    strided_times,
    wrapped_normal_score,
    wrapped_normal_score_norm,
)


@pytest.mark.parametrize("steps", [1, 8, 100, 1000])
def test_gaussian_schedule_goes_from_the_data_to_noise(steps):
    schedule = cosine_schedule(steps)
    assert schedule.alphas_cumprod[0] == 1
    assert schedule.alphas_cumprod[-1] < 1e-3
    assert (schedule.alphas_cumprod.diff() < 0).all()
    assert schedule.posterior_sigmas[0] == schedule.posterior_sigmas[1] == 0
    assert ((schedule.betas[1:] > 0) & (schedule.betas[1:] < 1)).all()


def test_posterior_variance_is_that_of_the_forward_process():
    # Bayes on x_{t-1} | x_t, x_0 for scalars: 1/var = alpha_t / beta_t + 1 / (1 - alphas_cumprod_{t-1})
    s = cosine_schedule(50)
    t = torch.arange(2, 51)
    precision = (1 - s.betas[t]) / s.betas[t] + 1 / (1 - s.alphas_cumprod[t - 1])
    torch.testing.assert_close(s.posterior_sigmas[t] ** 2, 1 / precision)


def test_strided_schedule_keeps_the_marginals():
    s, times = cosine_schedule(1000), strided_times(1000, 100)
    strided = s.take(times)
    torch.testing.assert_close(strided.alphas_cumprod[1:], s.alphas_cumprod[times])
    torch.testing.assert_close((1 - strided.betas).cumprod(0), strided.alphas_cumprod)


def test_all_steps_strided_are_the_schedule_itself():
    s = cosine_schedule(100)
    same = s.take(strided_times(100, 100))
    torch.testing.assert_close(same.betas, s.betas, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("visited", [1, 7, 100])
def test_strided_times_end_at_the_noisiest(visited):
    times = strided_times(100, visited)
    assert len(times) == visited == len(times.unique())
    assert times[-1] == 100
    assert times[0] >= 1


@pytest.mark.parametrize("visited", [0, 101])
def test_more_steps_than_the_schedule_has_are_refused(visited):
    with pytest.raises(ValueError, match="choose 1 to 100"):
        strided_times(100, visited)


def test_coordinate_sigmas_are_geometric():
    sigmas = exponential_sigmas(100, 0.005, 0.5)
    assert sigmas[0] == 0
    ratios = sigmas[2:] / sigmas[1:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
    assert sigmas[1] == pytest.approx(0.005)
    assert sigmas[-1] == pytest.approx(0.5)


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.5])
def test_score_is_the_derivative_of_the_log_density(sigma):
    x = torch.linspace(-1.7, 1.7, 33, dtype=torch.float64, requires_grad=True)
    images = torch.arange(-60, 61, dtype=torch.float64)
    log_density = torch.logsumexp(-((x[:, None] + images) ** 2) / (2 * sigma**2), 1)
    (expected,) = torch.autograd.grad(log_density.sum(), x)
    torch.testing.assert_close(
        wrapped_normal_score(x.detach(), torch.tensor(sigma, dtype=x.dtype)), expected, rtol=1e-9, atol=1e-7
    )


def test_score_has_period_one_and_is_odd():
    x, sigma = torch.rand(50, 3, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    torch.testing.assert_close(wrapped_normal_score(x + 2, sigma), wrapped_normal_score(x, sigma))
    torch.testing.assert_close(wrapped_normal_score(-x, sigma), -wrapped_normal_score(x, sigma))


def test_narrow_wrapped_normal_has_the_score_of_a_normal():
    x = torch.linspace(-0.02, 0.02, 9, dtype=torch.float64)
    torch.testing.assert_close(wrapped_normal_score(x, torch.tensor(0.005)), -x / 0.005**2, rtol=1e-6, atol=1e-6)


def test_mean_squared_score_has_its_limits():
    norms = wrapped_normal_score_norm(torch.tensor([0.005, 0.01, 0.6], dtype=torch.float64))
    torch.testing.assert_close(norms[:2], torch.tensor([1 / 0.005**2, 1 / 0.01**2], dtype=torch.float64))
    assert norms[2] < 1e-3  # nearly uniform: hardly a gradient left


def test_mean_squared_score_agrees_with_random_draws():
    sigma = torch.tensor(0.25, dtype=torch.float64)
    draws = sigma * torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    estimate = wrapped_normal_score(draws, sigma).square().mean()
    assert float(wrapped_normal_score_norm(sigma[None])[0]) == pytest.approx(float(estimate), rel=0.02)
    assert math.isclose(float(coord_schedule(10).score_norms[0]), 1.0)


def test_seeded_noise_repeats_and_leaves_global_state_alone():
    before = torch.random.get_rng_state()
    a, b = SeededNoise.from_seed(5, "cpu").normal("x", (4,)), SeededNoise.from_seed(5, "cpu").normal("x", (4,))
    assert torch.equal(a, b)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("alpha_bar", [1e-3, 0.5, 0.999])
def test_clean_data_and_noise_imply_each_other(alpha_bar):
    clean, eps = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = add_noise(clean, eps, alpha_bar)
    torch.testing.assert_close(predicted_clean(noisy, eps, alpha_bar), clean)
    torch.testing.assert_close(implied_noise(noisy, clean, alpha_bar), eps)


def test_noise_is_added_by_each_crystals_own_share_of_signal():
    clean, eps = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha_bar = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)[:, None, None]
    noisy = add_noise(clean, eps, alpha_bar)
    for k in range(3):
        torch.testing.assert_close(noisy[k], add_noise(clean[k], eps[k], float(alpha_bar[k])))
    assert add_noise(clean, eps, 1.0).equal(clean)


def test_perturbed_coordinates_lie_in_the_cell_and_are_the_same_for_every_image():
    x, eps = torch.rand(50, 3, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    moved = perturb_coords(x, eps, 0.4)
    assert ((moved >= 0) & (moved < 1)).all()
    apart = perturb_coords(x + torch.randint(-2, 3, (50, 3)), eps, 0.4) - moved
    torch.testing.assert_close(apart - apart.round(), torch.zeros_like(apart))
    apart = moved - (x + 0.4 * eps)
    torch.testing.assert_close(apart, apart.round())


def test_steps_lead_from_noise_to_the_data_each_from_where_the_last_one_ended():
    schedule = StepSchedule.strided(cosine_schedule(100), coord_schedule(100), 7)
    steps = list(schedule)
    assert [step.number for step in steps] == [7, 6, 5, 4, 3, 2, 1] and len(schedule) == 7
    assert [step.time for step in steps] == strided_times(100, 7).tolist()[::-1]
    for step, following in itertools.pairwise(steps):
        assert (step.next_alpha_bar, step.next_sigma) == (following.alpha_bar, following.sigma)
    assert [step.is_last for step in steps] == [False] * 6 + [True]
    assert (steps[-1].next_alpha_bar, steps[-1].next_sigma) == (1.0, 0.0)


@pytest.mark.parametrize("power", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("visited", [1, 2, 16, 48, 900, 1000])
def test_strided_times_ascend_to_the_last_and_are_never_the_same(visited, power):
    times = strided_times(1000, visited, power)
    assert len(times) == visited
    assert times[-1] == 1000
    assert times[0] >= 1
    assert (times.diff() >= 1).all()


def test_a_power_below_one_takes_shorter_steps_where_there_is_more_noise():
    gaps = strided_times(1000, 16, 0.8).diff()
    assert gaps[0] > gaps[-1]
    assert strided_times(1000, 16).diff().unique().tolist() == [62, 63]
