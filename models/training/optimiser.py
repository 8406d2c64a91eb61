"""The optimisers of training: Adam, and Muon for the matrices of message passing with Adam for the rest."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Adam, Optimizer

OptimiserName = Literal["adam", "muon"]


def check_optimiser(name: OptimiserName) -> None:
    """ValueError where this torch has no such optimiser: Muon came with 2.9."""
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        raise ValueError(f"torch {torch.__version__} has no Muon, which this preset trains with: install torch>=2.9")


def make_optimiser(part: nn.Module, name: OptimiserName, learning_rate: float, fused: bool) -> Optimizer:
    """An optimiser of a part's parameters. ValueError where this torch has no Muon (below 2.9).

    "muon": Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024). Updates of the weight matrices
    within `layers` are orthogonalised and scaled to the length that Adam's have, so that one rate serves both.
    """
    check_optimiser(name)
    if name == "adam":
        return Adam(part.parameters(), lr=learning_rate, fused=fused)
    hidden = [p for key, p in part.named_parameters() if p.ndim == 2 and "layers." in key]
    chosen = {id(p) for p in hidden}
    rest = [p for p in part.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(hidden, lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    return CombinedOptimizer(muon, Adam(rest, lr=learning_rate, fused=fused))


class CombinedOptimizer(Optimizer):
    """Optimisers of disjoint parameters as one, which is what Lightning's own loop takes."""

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        # The very dictionaries of the parts: a schedule that sets a rate here sets it there.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Any = None) -> Any:
        """One step of each; the closure, which computes loss and gradients, runs once."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
