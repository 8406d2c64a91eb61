"""CDVAE's decoder written plainly, as the published implementations lay it out: the oracle of the fast layout.

The graph lists every image of every pair of atoms and sorts each atom's neighbours; triplets are a list; every dense
layer is applied to every edge. It takes the modules of our GemNet-T, so both have the same weights. The operations and
their order are the published ones, so it gives the published numbers to the last bit on the same kind of processor.
"""

import itertools
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

CELLS = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))


def plain_neighbours(cart_coords, lattices, num_atoms, cutoff, max_neighbors):
    """(2, E) atoms (neighbour, centre), (E, 3) cells of the neighbours and (B,) edges of each crystal."""
    starts = num_atoms.cumsum(0) - num_atoms
    parts: tuple[list[torch.Tensor], ...] = ([], [], [])
    for b, (start, n) in enumerate(zip(starts.tolist(), num_atoms.tolist(), strict=True)):
        atoms = torch.arange(start, start + n)
        for part, of_pairs in zip(
            parts, (atoms.repeat_interleave(n), atoms.repeat(n), torch.full((n * n,), b)), strict=True
        ):
            part.append(of_pairs)
    centres, others, crystals = map(torch.cat, parts)

    cells = CELLS.to(lattices).T.expand(len(lattices), -1, -1)  # (B, 3, 27)
    shifts = torch.bmm(lattices.transpose(1, 2), cells)[crystals]  # (P, 3, 27)
    here = cart_coords[centres][:, :, None].expand(-1, -1, 27)
    there = cart_coords[others][:, :, None].expand(-1, -1, 27) + shifts
    squared = ((here - there) ** 2).sum(dim=1).view(-1)  # (27 P,)
    centres = centres[:, None].repeat(1, 27).view(-1)
    others = others[:, None].repeat(1, 27).view(-1)
    images = CELLS.to(lattices).repeat(len(squared) // 27, 1)

    close = (squared <= cutoff * cutoff) & (squared > 1e-4)
    centres, others, images, squared = centres[close], others[close], images[close], squared[close]
    found = torch.bincount(centres, minlength=len(cart_coords))
    most = int(found.max())
    if most > max_neighbors:
        first = found.cumsum(0) - found
        table = torch.full((len(cart_coords), most), cutoff * cutoff + 1.0, dtype=squared.dtype)
        table.view(-1)[centres * most + torch.arange(len(centres)) - first[centres]] = squared
        distances, order = table.sort(dim=1)
        chosen = (order + first[:, None])[:, :max_neighbors][distances[:, :max_neighbors] <= cutoff * cutoff]
        kept = torch.zeros(len(centres), dtype=torch.bool)
        kept[chosen] = True
        centres, others, images = centres[kept], others[kept], images[kept]
    per_crystal = torch.zeros(len(lattices), dtype=torch.long)
    crystal_of_atom = torch.arange(len(lattices)).repeat_interleave(num_atoms)
    per_crystal.index_add_(0, crystal_of_atom[centres], torch.ones_like(centres))
    return torch.stack([others, centres]), images, per_crystal


def symmetric_edges(edges, cells, per_crystal, distances, directions):
    """Edges towards later atoms, then their reverses, crystal by crystal; and each edge's reverse."""
    source, target = edges
    earlier = (cells * torch.tensor([9.0, 3.0, 1.0])).sum(1) < 0
    half = (source < target) | ((source == target) & earlier)
    crystal = torch.arange(len(per_crystal)).repeat_interleave(per_crystal)[half]
    count = torch.bincount(crystal, minlength=len(per_crystal))
    ordered: list[torch.Tensor] = []
    swapped: list[torch.Tensor] = []
    start = 0
    for n in count.tolist():
        forward = torch.arange(start, start + n)
        ordered += [forward, forward + len(crystal)]
        swapped += [forward + start + n, forward + start]
        start += n
    order, swap = torch.cat(ordered), torch.cat(swapped)
    source, target = torch.cat([source[half], target[half]])[order], torch.cat([target[half], source[half]])[order]
    distances = torch.cat([distances[half]] * 2)[order]
    directions = torch.cat([directions[half], -directions[half]])[order]
    return source, target, distances, directions, swap


def triplet_list(source, target, num_atoms):
    """Edges (b -> a, c -> a) of all triplets of different edges into one atom, and the rank of b -> a within c -> a."""
    order = (target * num_atoms + source).argsort(stable=True)
    entering = torch.bincount(target, minlength=num_atoms)
    first = entering.cumsum(0) - entering
    per_edge = entering[target]
    ca = torch.arange(len(target)).repeat_interleave(per_edge)
    start = per_edge.cumsum(0) - per_edge
    ba = order[first[target][ca] + torch.arange(len(ca)) - start[ca]]
    different = ba != ca
    ba, ca = ba[different], ca[different]
    others = torch.bincount(ca, minlength=len(target))
    return ba, ca, torch.arange(len(ca)) - (others.cumsum(0) - others)[ca]


class PlainGemNetT(nn.Module):
    """The decoder with the weights of `fast`, a GemNetT."""

    def __init__(self, fast):
        super().__init__()
        self.fast = fast
        self.config = fast.config
        self.harmonics = legendre_formulae(fast.config.num_spherical)

    def graph(self, frac_coords, lattices, num_atoms):
        """Edges, their reverses, triplets and the harmonics of their angles."""
        crystal = torch.arange(len(num_atoms)).repeat_interleave(num_atoms)
        cart_coords = torch.einsum("bi,bij->bj", frac_coords, lattices[crystal])
        edges, cells, per_crystal = plain_neighbours(
            cart_coords, lattices, num_atoms, self.config.radius, self.config.max_neighbors
        )
        vectors = cart_coords[edges[0]] - cart_coords[edges[1]]
        vectors = vectors + torch.einsum("bi,bij->bj", cells, lattices.repeat_interleave(per_crystal, dim=0))
        distances = vectors.norm(dim=-1)
        source, target, distances, directions, swap = symmetric_edges(
            edges, cells, per_crystal, distances, -vectors / distances[:, None]
        )
        ba, ca, rank = triplet_list(source, target, len(crystal))
        cosines = (directions[ca] * directions[ba]).sum(-1).clamp(-1, 1)
        angular = torch.stack([f(cosines) for f in self.harmonics], dim=1)
        return source, target, distances, directions, swap, (ba, ca, rank), angular

    def forward(self, z, frac_coords, atomic_numbers, lattices, layout):
        net, config = self.fast, self.config
        num_atoms = layout.num_atoms
        source, target, distances, directions, swap, triplets, angular = self.graph(frac_coords, lattices, num_atoms)
        _, ca, rank = triplets

        x = distances * (1 / config.radius)
        p = config.envelope_exponent
        falling = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        falling = torch.where(x < 1, falling, torch.zeros_like(x))
        coefficient = -0.5 / (1 / (config.num_radial - 1)) ** 2
        rbf = falling[:, None] * torch.exp(coefficient * torch.pow(x[:, None] - net.offsets, 2))
        angular_rbf = falling[:, None] * torch.exp(coefficient * torch.pow(x[:, None] - net.offsets, 2))

        h = torch.cat([net.atom_embedding(atomic_numbers - 1), z.repeat_interleave(num_atoms, dim=0)], dim=1)
        h = net.latent_mixing(h)
        m = embed_edges(net.edge_embedding, h, rbf, source, target)
        rbf3, rbf_atoms, rbf_out = net.rbf_triplets(rbf), net.rbf_atoms(rbf), net.rbf_outputs(rbf)
        circular = torch.matmul(angular_rbf[None], net.circular).permute(1, 2, 0)  # (E, cbf, 7)
        padded = x.new_zeros(len(source), 1 + int(rank.max()), config.num_spherical)
        padded[ca, rank] = angular
        basis = circular, padded.transpose(1, 2)

        force = push(net.outputs[0], m, rbf_out)
        for block, output in zip(net.interactions, net.outputs[1:], strict=True):
            h, m = interact(block, h, m, rbf3, rbf_atoms, basis, triplets, source, target, swap)
            force = force + push(output, m, rbf_out)
        moved = torch.zeros_like(frac_coords).index_add_(0, target, force * directions)
        return moved, net.type_logits(h)


@lru_cache
def legendre_formulae(count):
    """Functions of the cosine, derived by SymPy as the published code does."""
    import sympy
    from torch_geometric.nn.models.dimenet_utils import real_sph_harm

    cosine = sympy.symbols("z")
    forms = real_sph_harm(count, zero_m_only=True, spherical_coordinates=False)
    functions = [sympy.lambdify([cosine], forms[degree][0], {"sqrt": torch.sqrt}) for degree in range(1, count)]
    first = float(forms[0][0])
    return [lambda x: torch.zeros_like(x) + first, *functions]


def dense(layer, x):
    return F.silu(layer(x)) * (1 / 0.6)


def residuals(layers, x):
    for layer in layers:
        x = (x + dense(layer.second, dense(layer.first, x))) * (1 / math.sqrt(2))
    return x


def embed_edges(embedding, h, features, source, target):
    weight = torch.cat([embedding.source.weight, embedding.target.weight, embedding.edge.weight], dim=1)
    return F.silu(F.linear(torch.cat([h[source], h[target], features], dim=-1), weight)) * (1 / 0.6)


def push(output, m, rbf):
    x = residuals(output.layers, dense(output.dense, m)) * output.rbf(rbf) * output.scale
    return output.out(x)


def interact(block, h, m, rbf3, rbf_atoms, basis, triplets, source, target, swap):
    half = 1 / math.sqrt(2)
    x = (dense(block.skip, m) + triplet_messages(block.triplets, m, rbf3, basis, triplets, swap)) * half
    m = (m + residuals(block.before_skip, x)) * half
    m = residuals(block.after_skip, m)
    gathered = torch.zeros_like(h).index_add_(0, target, m * block.atom_rbf(rbf_atoms)) * block.atom_scale
    update = residuals(block.atom_layers, dense(block.atom_in, gathered))
    h = (h + update) * half
    m = (m + residuals(block.edge_layers, embed_edges(block.edge_embedding, h, m, source, target))) * half
    return h, m


def triplet_messages(block, m, rbf3, basis, triplets, swap):
    circular, angular = basis
    ba, ca, rank = triplets
    x = dense(block.dense, m) * block.rbf(rbf3) * block.rbf_scale
    x = dense(block.down, x)[ba]
    padded = x.new_zeros(len(m), angular.shape[2], x.shape[1])
    padded[ca, rank] = x
    x = torch.matmul(circular, torch.matmul(angular, padded))  # (E, cbf, trip)
    weight = block.bilinear.weight.view(-1, circular.shape[1], x.shape[2]).permute(2, 1, 0)  # (trip, cbf, out)
    x = torch.matmul(x.permute(2, 0, 1), weight.contiguous()).sum(0) * block.triplet_scale
    return (dense(block.up, x) + dense(block.up_reverse, x)[swap]) * (1 / math.sqrt(2))
