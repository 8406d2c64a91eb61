"""Replays the recorded draws of a CDVAE fixture with the published order of operations."""

import dataclasses

import torch
from torch import nn

from models.baselines.cdvae.gemnet import DecoderOutput
from models.baselines.cdvae.langevin import LangevinSettings
from models.baselines.cdvae.official import cdvae_from_official
from tests.plain_cdvae import PlainGemNetT

ROUNDING = 1e-7


class BothDecoders(nn.Module):
    """Answers as the plain decoder does and remembers how far ours is from it at every state."""

    def __init__(self, ours):
        super().__init__()
        self.ours, self.plain = ours, PlainGemNetT(ours)
        self.evaluations, self.apart = 0, 0.0

    def forward(self, *state):
        plain = DecoderOutput(*self.plain(*state))
        self.evaluations += 1
        for mine, theirs in zip(self.ours(*state), plain, strict=True):
            self.apart = max(self.apart, float((mine - theirs).abs().max() / theirs.abs().max()))
        return plain


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
    """The end of the recorded draws: (crystals, decoders, whether all draws were used).

    nudged: seed of relative changes of the draws by 1e-7, one rounding of float32; None for the draws as recorded.
    """
    model = model_of(fixture)
    both = model.decoder = BothDecoders(model.decoder)
    draws = fixture["draws"]
    if nudged is not None:
        generator = torch.Generator().manual_seed(nudged)
        draws = [(k, v * (1 + ROUNDING * torch.randn(v.shape, generator=generator))) for k, v in draws]
    noise = Replay(draws)
    with torch.no_grad():
        end = model.decode(fixture["z"], noise, num_atoms=fixture["num_atoms"], atomic_numbers=fixture["initial_types"])
    return end, both, next(noise.draws, None) is None


def apart(end, final, num_atoms):
    """For each crystal: the largest difference of fractional coordinates, and whether all types are equal."""
    shifts = end.frac_coords - final["frac_coords"]
    shifts = (shifts - shifts.round()).abs().amax(1).split(num_atoms.tolist())
    types = (end.atomic_numbers == final["atom_types"]).split(num_atoms.tolist())
    return [(float(shift.max()), bool(same.all())) for shift, same in zip(shifts, types, strict=True)]
