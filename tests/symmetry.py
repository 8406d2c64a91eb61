"""Random symmetry operations for the invariance tests."""

import torch

from models.diffusion import SeededNoise


def random_rotation(seed):
    """(3, 3) orthogonal matrix, a reflection for odd seeds: E(3) has both."""
    g = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))
    q = q * r.diagonal().sign()
    wanted = -1.0 if seed % 2 else 1.0
    if torch.det(q) * wanted < 0:
        q[:, 0] = -q[:, 0]
    return q


class TurnedNoise:
    """The same draws as a seed's, with everything that belongs to a lattice turned by q and permuted by `order`."""

    def __init__(self, seed, q=None, order=None):
        self.source = SeededNoise.from_seed(seed, "cpu", torch.float64)
        self.q, self.order = q, order

    def normal(self, name, shape):
        draw = self.source.normal(name, shape)
        if "lattice" in name:
            return draw if self.q is None else draw @ self.q
        return draw if self.order is None else draw[:, self.order]

    def uniform(self, name, shape):
        draw = self.source.uniform(name, shape)
        return draw if self.order is None or name == "times" else draw[:, self.order]
