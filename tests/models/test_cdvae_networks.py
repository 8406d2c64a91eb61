"""CDVAE's graph, encoder and decoder: equal to the plain ones, and blind to what is not physical."""

import pytest
import torch

from models.baselines.cdvae.cells import (
    lattices_from_parameters,
    nearest_image,
    parameters_of_lattices,
    to_cartesian,
)
from models.baselines.cdvae.encoder import DimeNetPlusPlus, EncoderConfig
from models.baselines.cdvae.gemnet import GemNetConfig, GemNetT
from models.baselines.cdvae.graph import Layout, neighbour_edges, neighbour_images
from tests.plain_cdvae import PlainGemNetT, plain_neighbours
from tests.random_crystals import ragged_crystals
from tests.symmetry import random_rotation

SMALL = GemNetConfig(hidden_dim=16, latent_dim=8, num_blocks=2, emb_size_trip=8, emb_size_bil_trip=8, num_radial=16)


def decoder(config=SMALL, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GemNetT(config).to(dtype).eval()


def latents(count, dtype=torch.float64):
    return torch.randn(count, SMALL.latent_dim, generator=torch.Generator().manual_seed(9)).to(dtype)


@torch.no_grad()
def decode(network, z, num_atoms, frac_coords, atomic_numbers, lattices):
    return network(z, frac_coords, atomic_numbers, lattices, Layout.of(num_atoms))


@pytest.mark.parametrize("sizes", [[5] * 6, [1, 20, 3, 7], [1], [2, 2]])
@pytest.mark.parametrize("max_neighbors", [1, 20, 1000])
def test_graph_equals_the_plain_one(sizes, max_neighbors):
    num_atoms, frac_coords, _, lattices = ragged_crystals(sizes, dtype=torch.float32)
    layout = Layout.of(num_atoms)
    cart = to_cartesian(frac_coords, lattices, layout.crystal)
    edges = neighbour_edges(neighbour_images(cart, lattices, layout, 7.0, max_neighbors), layout)
    (sources, targets), cells, _ = plain_neighbours(cart, lattices, num_atoms, 7.0, max_neighbors)
    assert torch.equal(edges.sources, sources) and torch.equal(edges.targets, targets)
    vectors = cart[sources] - cart[targets] + to_cartesian(cells, lattices, layout.crystal[targets])
    torch.testing.assert_close(edges.vectors, vectors, rtol=1e-5, atol=1e-4)


def test_ties_of_a_perfect_crystal_are_cut_as_the_plain_graph_cuts_them():
    sites = torch.tensor([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    num_atoms, lattices = torch.tensor([5, 5]), torch.stack([torch.eye(3) * 4, torch.eye(3) * 3.7])
    layout = Layout.of(num_atoms)
    cart = to_cartesian(sites.repeat(2, 1), lattices, layout.crystal)
    edges = neighbour_edges(neighbour_images(cart, lattices, layout, 7.0, 20), layout)
    (sources, targets), cells, _ = plain_neighbours(cart, lattices, num_atoms, 7.0, 20)
    assert (torch.bincount(targets) == 20).all()
    assert torch.equal(edges.sources, sources) and torch.equal(edges.targets, targets)
    vectors = cart[sources] - cart[targets] + to_cartesian(cells, lattices, layout.crystal[targets])
    torch.testing.assert_close(edges.vectors, vectors)


@pytest.mark.parametrize("sizes", [[5, 5, 5], [1, 9, 2], [1]])
def test_decoder_equals_the_plain_one(sizes):
    num_atoms, *state = ragged_crystals(sizes)
    network, z = decoder(), latents(len(sizes))
    ours, plain = (decode(n, z, num_atoms, *state) for n in (network, PlainGemNetT(network)))
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("seed", [0, 1], ids=["rotation", "reflection"])
def test_turned_crystals_get_turned_directions_and_the_same_types(seed):
    num_atoms, frac_coords, numbers, lattices = ragged_crystals([4, 6])
    network, z, turn = decoder(), latents(2), random_rotation(seed)
    still = decode(network, z, num_atoms, frac_coords, numbers, lattices)
    turned = decode(network, z, num_atoms, frac_coords, numbers, lattices @ turn)
    torch.testing.assert_close(turned.cart_coord_diff, still.cart_coord_diff @ turn)
    torch.testing.assert_close(turned.type_logits, still.type_logits)


def test_moving_all_atoms_or_naming_other_images_changes_nothing():
    num_atoms, frac_coords, numbers, lattices = ragged_crystals([4, 6], volume=20.0)
    network, z = decoder(), latents(2)
    still = decode(network, z, num_atoms, frac_coords, numbers, lattices)
    moved = decode(network, z, num_atoms, frac_coords + torch.tensor([0.3, -0.7, 0.1]), numbers, lattices)
    images = decode(network, z, num_atoms, frac_coords + torch.randint(-3, 4, (10, 3)), numbers, lattices)
    for other in (moved, images):
        for a, b in zip(still, other, strict=True):
            torch.testing.assert_close(a, b)


def test_the_order_of_atoms_does_not_matter_while_no_neighbour_is_cut():
    num_atoms, frac_coords, numbers, lattices = ragged_crystals([4, 6])
    network, z = decoder(GemNetConfig(**{**SMALL.__dict__, "max_neighbors": 10_000})), latents(2)
    order = torch.tensor([2, 0, 3, 1, 9, 5, 4, 8, 7, 6])
    still = decode(network, z, num_atoms, frac_coords, numbers, lattices)
    mixed = decode(network, z, num_atoms, frac_coords[order], numbers[order], lattices)
    for a, b in zip(still, mixed, strict=True):
        torch.testing.assert_close(a[order], b)


def test_crystals_of_a_batch_do_not_see_each_other():
    num_atoms, frac_coords, numbers, lattices = ragged_crystals([3, 5, 2])
    network, z = decoder(), latents(3)
    together = decode(network, z, num_atoms, frac_coords, numbers, lattices)
    alone = decode(network, z[1:2], num_atoms[1:2], frac_coords[3:8], numbers[3:8], lattices[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[3:8], b)


def test_atoms_without_neighbours_and_broken_cells_do_not_stop_a_batch():
    num_atoms, frac_coords, numbers, lattices = ragged_crystals([1, 5, 2])
    lattices[0] *= 100
    lattices[2] = torch.nan
    out = decode(decoder(), latents(3), num_atoms, frac_coords, numbers, lattices)
    assert out.cart_coord_diff[:6].isfinite().all() and (out.cart_coord_diff[0] == 0).all()
    lonely = decode(decoder(), latents(1), num_atoms[:1], frac_coords[:1], numbers[:1], lattices[:1])
    assert (lonely.cart_coord_diff == 0).all() and lonely.type_logits.isfinite().all()


def test_gradients_of_the_decoder_are_those_of_finite_differences():
    num_atoms, frac_coords, numbers, lattices = ragged_crystals([3])
    network, z, layout = decoder(), latents(1), Layout.of(num_atoms)

    def outputs(cell, latent):
        return network(latent, frac_coords, numbers, cell, layout)

    torch.autograd.gradcheck(outputs, (lattices.requires_grad_(), z.requires_grad_()), rtol=1e-4, atol=1e-6)


def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Few angular functions: SymPy takes ten seconds to derive the published seven.
        config = EncoderConfig(
            8, 1, int_emb_size=4, basis_emb_size=4, out_emb_channels=8, num_spherical=3, num_radial=3
        )
        network = DimeNetPlusPlus(config, num_targets=4)
        for block in network.output_blocks:
            torch.nn.init.normal_(block.lin.weight)
        return network.double().eval()


def test_latents_are_blind_to_rotation_translation_order_and_images():
    num_atoms, frac_coords, numbers, lattices = ragged_crystals([4, 6], volume=20.0)
    network = encoder()
    with torch.no_grad():
        still = network(numbers, frac_coords, lattices, num_atoms)
        order = torch.tensor([2, 0, 3, 1, 9, 5, 4, 8, 7, 6])
        for other in (
            network(numbers, frac_coords, lattices @ random_rotation(1), num_atoms),
            network(numbers, frac_coords + 0.37, lattices, num_atoms),
            network(numbers[order], frac_coords[order], lattices, num_atoms),
            network(numbers, frac_coords + torch.randint(-3, 4, (10, 3)), lattices, num_atoms),
        ):
            torch.testing.assert_close(other, still)
    assert (still[0] - still[1]).abs().max() > 1e-3


def test_an_element_that_the_encoder_does_not_know_is_named():
    num_atoms, frac_coords, _, lattices = ragged_crystals([2])
    with pytest.raises(ValueError, match="atomic number 99"):
        encoder()(torch.tensor([1, 99]), frac_coords, lattices, num_atoms)


def test_cells_and_their_parameters_are_inverse():
    *_, lattices = ragged_crystals([2] * 20)
    lengths, angles = parameters_of_lattices(lattices)
    torch.testing.assert_close(lattices_from_parameters(lengths, angles), lattices)
    turned = lattices @ random_rotation(0)
    for a, b in zip(parameters_of_lattices(turned), (lengths, angles), strict=True):
        torch.testing.assert_close(a, b)


def test_nearest_image_of_a_shift_is_the_shortest():
    lattices = torch.eye(3)[None] * 4.0
    shift = torch.tensor([[0.9, -0.6, 0.1], [0.2, 0.0, -0.95]])
    found = nearest_image(shift, lattices, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(found, torch.tensor([[-0.4, 1.6, 0.4], [0.8, 0.0, 0.2]]))


def test_cells_have_the_lengths_and_angles_asked_for():
    lengths = torch.tensor([[3.0, 4.0, 5.0], [6.0, 7.0, 5.5]], dtype=torch.float64)
    angles = torch.tensor([[90.0, 90.0, 90.0], [75.0, 112.0, 64.0]], dtype=torch.float64)
    alpha, beta, gamma = torch.cos(torch.deg2rad(angles)).unbind(1)
    one = torch.ones_like(alpha)
    cosines = torch.stack([one, gamma, beta, gamma, one, alpha, beta, alpha, one], dim=1).view(-1, 3, 3)
    lattices = lattices_from_parameters(lengths, angles)
    gram = lattices @ lattices.transpose(1, 2)  # of a, b, c: |a| |b| cos gamma and so on
    torch.testing.assert_close(gram, cosines * lengths[:, :, None] * lengths[:, None])
    assert (lattices[:, 2, :2] == 0).all() and (lattices[:, 0, 1] == 0).all()
    assert (torch.linalg.det(lattices) > 0).all()
