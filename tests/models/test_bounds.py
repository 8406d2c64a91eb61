"""Bounds on what a sampler takes for the clean cell: they hold, turn with the cell and touch no other crystal."""

import pytest
import torch

from models.bounds import bounded_norm, bounded_volume
from tests.symmetry import random_rotation

ALPHA_BAR, SMALLEST = 0.7, 2.0


def implied(noisy, eps, alpha_bar=ALPHA_BAR):
    return (noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def noise_for(clean, noisy, alpha_bar=ALPHA_BAR):
    return (noisy - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5


def cells(*sizes):
    """Matrices of these singular values (K of them, 3 each), turned at random on both sides, and noise."""
    diagonal = torch.diag_embed(torch.tensor(sizes, dtype=torch.float64))
    return random_rotation(len(sizes)) @ diagonal @ random_rotation(1)


def noisy_like(clean):
    return torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=clean.dtype)


def singular_values(clean, alpha_bar=ALPHA_BAR, smallest=SMALLEST):
    noisy = noisy_like(clean)
    bounded = bounded_volume(noisy, noise_for(clean, noisy, alpha_bar), alpha_bar, smallest)
    return torch.linalg.svdvals(implied(noisy, bounded, alpha_bar))


def test_a_flat_cell_is_raised_in_its_flattest_direction_alone():
    (after,) = singular_values(cells((3.0, 2.0, 0.01)))
    torch.testing.assert_close(after, torch.tensor([3.0, 2.0, SMALLEST / 6], dtype=after.dtype))


def test_a_cell_like_a_needle_gets_two_equal_widths_and_is_then_scaled():
    (after,) = singular_values(cells((4.0, 0.1, 0.01)))
    factor = (SMALLEST / 0.04) ** (1 / 3)
    torch.testing.assert_close(after, factor * torch.tensor([4.0, 0.1, 0.1], dtype=after.dtype))


@pytest.mark.parametrize("sizes", [(2.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_a_cell_without_volume_gets_the_smallest(sizes):
    after = singular_values(cells(sizes))
    assert torch.isfinite(after).all()
    torch.testing.assert_close(after.prod(1), torch.full((1,), SMALLEST, dtype=after.dtype))


def test_other_crystals_of_the_batch_are_left_bit_for_bit():
    clean = cells((3.0, 2.0, 0.01), (2.0, 1.5, 1.0))
    noisy = noisy_like(clean)
    eps = noise_for(clean, noisy)
    bounded = bounded_volume(noisy, eps, ALPHA_BAR, SMALLEST)
    assert torch.equal(bounded[1], eps[1])
    assert not torch.equal(bounded[0], eps[0])


def test_what_is_not_finite_stays_so_and_harms_nobody():
    clean = cells((3.0, 2.0, 0.01), (3.0, 2.0, 0.01))
    noisy = noisy_like(clean)
    eps = noise_for(clean, noisy)
    alone = bounded_volume(noisy[:1], eps[:1], ALPHA_BAR, SMALLEST)
    eps[1, 0, 0] = float("nan")
    bounded = bounded_volume(noisy, eps, ALPHA_BAR, SMALLEST)
    torch.testing.assert_close(bounded[:1], alone)
    assert torch.isnan(bounded[1, 0, 0])


def test_nothing_is_bounded_while_there_is_more_noise_than_signal():
    torch.testing.assert_close(
        singular_values(cells((3.0, 2.0, 0.01)), alpha_bar=0.49),
        torch.tensor([[3.0, 2.0, 0.01]], dtype=torch.float64),
    )


@pytest.mark.parametrize("bound", [bounded_volume, bounded_norm])
def test_the_bounded_cell_turns_with_the_cell(bound):
    clean = cells((3.0, 2.0, 0.01), (4.0, 0.1, 0.01), (2.0, 1.5, 1.0))
    noisy, q = noisy_like(clean), random_rotation(3)
    eps = noise_for(clean, noisy)
    torch.testing.assert_close(
        bound(noisy @ q, eps @ q, ALPHA_BAR, SMALLEST), bound(noisy, eps, ALPHA_BAR, SMALLEST) @ q
    )
