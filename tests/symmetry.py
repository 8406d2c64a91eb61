"""Random symmetry operations for the invariance tests."""

import torch


def random_rotation(seed):
    """(3, 3) orthogonal matrix, a reflection for odd seeds: E(3) has both."""
    g = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))
    q = q * r.diagonal().sign()
    wanted = -1.0 if seed % 2 else 1.0
    if torch.det(q) * wanted < 0:
        q[:, 0] = -q[:, 0]
    return q
