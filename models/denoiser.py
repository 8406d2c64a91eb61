"""The denoising network as a sampler asks it: told the time, guided and bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from models.bounds import Bounds
from models.cspnet import CSPNet, CSPNetOutput
from models.diffusion import Step, time_embedding
from models.guidance import Guide, Inputs, unguided


@dataclass(frozen=True)
class Denoiser:
    """A network with what changes its predictions on their way to the sampler.

    guide: guidance, as in `models.guidance`. bounds: on the clean data that the prediction implies.
    """

    network: CSPNet
    guide: Guide = unguided
    bounds: Bounds = field(default_factory=Bounds)

    def predict(self, nodes: Tensor, frac_coords: Tensor, lattices: Tensor, step: Step) -> CSPNetOutput:
        """Noise of nodes (B, N, D) and lattices (B, 3, 3), and the coordinates' negative score (B, N, 3)."""
        inputs = self._inputs(nodes, frac_coords, lattices, step)
        out = self.guide(self.network(*inputs), inputs, step.alpha_bar)
        return self.bounds.apply(out, nodes, lattices, step.alpha_bar)

    def negative_score(self, nodes: Tensor, frac_coords: Tensor, lattices: Tensor, step: Step) -> Tensor:
        """The network's own negative score of the coordinates (B, N, 3), for a corrector: nothing guides it."""
        score: Tensor = self.network(*self._inputs(nodes, frac_coords, lattices, step)).coord
        return score

    def _inputs(self, nodes: Tensor, frac_coords: Tensor, lattices: Tensor, step: Step) -> Inputs:
        """What the network takes."""
        config, shape = self.network.config, (len(frac_coords),)
        times = frac_coords.new_full((), step.time).expand(shape)
        inputs = nodes, frac_coords, lattices, time_embedding(times, config.time_dim)
        if config.type_posterior is None:
            return inputs
        return *inputs, frac_coords.new_full((), step.alpha_bar).expand(shape)
