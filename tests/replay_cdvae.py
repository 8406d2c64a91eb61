"""Replays the recorded draws of a CDVAE fixture with the published order of operations.

As a program it writes where they end, under the instruction set that PyTorch is started with:

    ATEN_CPU_CAPABILITY=avx2 python tests/replay_cdvae.py cdvae_langevin.pt end.pt
"""

import dataclasses
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from models.baselines.cdvae.gemnet import DecoderOutput
from models.baselines.cdvae.langevin import LangevinSettings
from models.baselines.cdvae.official import cdvae_from_official
from tests.plain_cdvae import PlainGemNetT

ROUNDING = 1e-7


class PlainDecoder(nn.Module):
    """The plain decoder, which remembers the coordinates and types it saw."""

    def __init__(self, ours):
        super().__init__()
        self.plain, self.states = PlainGemNetT(ours), []

    def forward(self, *state):
        self.states.append(state[1:3])
        return DecoderOutput(*self.plain(*state))


class Replay:
    """Recorded draws in their order."""

    def __init__(self, draws):
        self.draws = iter(draws)

    def take(self, kind, shape):
        recorded, values = next(self.draws)
        assert recorded.removesuffix("_like") == kind and tuple(values.shape) == shape
        return values

    def normal(self, name, shape):
        return self.take("randn", shape)

    def uniform(self, name, shape):
        return self.take("rand", shape)


def model_of(fixture):
    """The CDVAE of a fixture, its sampler as configured there."""
    scaler = fixture["lattice_scaler"]
    settings = {**fixture["config"], "encoder": fixture["encoder_config"], "decoder": fixture["decoder_config"]}
    model = cdvae_from_official(fixture["state_dict"], (scaler["means"], scaler["stds"]), settings)
    sampler = LangevinSettings(fixture["langevin"]["step_lr"], fixture["langevin"]["n_step_each"])
    model.config = dataclasses.replace(model.config, sampler=sampler)
    return model


def replay(fixture, nudged=None):
    """Where the recorded draws end: (crystals, states before each step, whether all draws were used).

    nudged: seed of relative changes of the draws by 1e-7, one rounding of float32; None for the draws as recorded.
    """
    model = model_of(fixture)
    model.decoder = PlainDecoder(model.decoder)
    draws = fixture["draws"]
    if nudged is not None:
        generator = torch.Generator().manual_seed(nudged)
        draws = [(k, v * (1 + ROUNDING * torch.randn(v.shape, generator=generator))) for k, v in draws]
    noise = Replay(draws)
    with torch.no_grad():
        end = model.decode(fixture["z"], noise, num_atoms=fixture["num_atoms"], atomic_numbers=fixture["initial_types"])
    return end, model.decoder.states, next(noise.draws, None) is None


def apart(coords, types, final, num_atoms):
    """For each crystal: the largest difference of fractional coordinates, and whether all types are equal."""
    shifts = coords - final[0]
    shifts = (shifts - shifts.round()).abs().amax(1).split(num_atoms.tolist())
    same = (types == final[1]).split(num_atoms.tolist())
    return [(float(shift.max()), bool(equal.all())) for shift, equal in zip(shifts, same, strict=True)]


if __name__ == "__main__":
    crystals, _, _ = replay(torch.load(sys.argv[1], weights_only=True))
    torch.save((crystals.frac_coords, crystals.atomic_numbers), sys.argv[2])
