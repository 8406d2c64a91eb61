"""The joint denoising loss of DiffCSP and CrysLDM: Gaussian for lattice and nodes, wrapped normal for coordinates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.cspnet import CSPNet
from models.diffusion import (
    CoordSchedule,
    GaussianSchedule,
    Noise,
    add_noise,
    perturb_coords,
    time_embedding,
    wrapped_normal_score,
)
from models.type_posterior import type_cross_entropy


def loss_table(gaussian: GaussianSchedule, coords: CoordSchedule) -> Tensor:
    """(T + 1, 3) float64: alphas_cumprod, sigmas and score_norms at each time, to be kept on the batches' device."""
    return torch.stack([gaussian.alphas_cumprod, coords.sigmas, coords.score_norms], dim=1)


def denoising_losses(
    network: CSPNet,
    table: Tensor,
    clean: tuple[Tensor, Tensor, Tensor],
    noise: Noise,
    weights: tuple[float, ...],
    times: Tensor | None = None,
    nodes_given: bool = False,
    types: Tensor | None = None,
) -> dict[str, Tensor]:
    """Mean squared errors of the predicted noise and score at random times, and their weighted sum "loss".

    table: of `loss_table`. clean: node features (B, N, F), fractional coordinates (B, N, 3) and lattices (B, 3, 3), in
    feature or latent space.
    weights: of lattice, coordinates and nodes, and of the types' cross entropy where the network has a posterior head,
    which needs types (B, N), 0 .. K - 1. times: (B,) in 1..T; drawn uniformly when not given. nodes_given: the network
    is shown the clean nodes at all times, and they have no loss.
    The network predicts the score with its sign turned, divided by the root of its mean square, as published.
    DiffCSP, eqs. 3, 6 and 8; CrysLDM, eqs. 10 and 12.
    """
    nodes, frac_coords, lattices = clean
    dtype = frac_coords.dtype
    if times is None:
        times = (noise.uniform("times", (len(nodes),)) * (len(table) - 1)).long() + 1
    alpha_bar, sigma, norm = table[times].to(dtype)[:, :, None, None].unbind(1)  # (B, 1, 1) each
    eps_lattices = noise.normal("lattice", tuple(lattices.shape))
    eps_nodes = None if nodes_given else noise.normal("node", tuple(nodes.shape))
    eps_coords = noise.normal("coord", tuple(frac_coords.shape))
    inputs = (
        nodes if eps_nodes is None else add_noise(nodes, eps_nodes, alpha_bar),
        perturb_coords(frac_coords, eps_coords, sigma),
        add_noise(lattices, eps_lattices, alpha_bar),
        time_embedding(times.to(dtype), network.config.time_dim),
    )
    if network.config.type_posterior is None:
        out, type_logits = network(*inputs), None
    else:
        out, type_logits = network.with_type_logits(*inputs, alpha_bar.flatten())
    negative_score = -wrapped_normal_score(sigma * eps_coords, sigma) / norm.sqrt()
    lattice, coord = F.mse_loss(out.lattice, eps_lattices), F.mse_loss(out.coord, negative_score)
    total = weights[0] * lattice + weights[1] * coord
    if eps_nodes is None:
        return {"loss": total, "lattice": lattice, "coord": coord}
    node = F.mse_loss(out.node, eps_nodes)
    total = total + weights[2] * node
    losses = {"lattice": lattice, "coord": coord, "type": node}
    if type_logits is None or types is None:
        return {"loss": total, **losses}
    cross_entropy = type_cross_entropy(type_logits, types)
    return {"loss": total + weights[3] * cross_entropy, **losses, "cross_entropy": cross_entropy}
