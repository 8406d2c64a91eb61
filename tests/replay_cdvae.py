"""Replays the recorded draws of a CDVAE fixture with the published order of operations; prints the deviations as JSON.

Run as a program, since PyTorch reads the instruction set it shall use when it starts:

    ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=2 python tests/replay_cdvae.py cdvae_langevin.pt
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from models.baselines.cdvae.gemnet import DecoderOutput
from models.baselines.cdvae.langevin import LangevinSettings
from models.baselines.cdvae.official import cdvae_from_official
from tests.plain_cdvae import PlainGemNetT


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


def replay(fixture):
    """Deviations of the replayed end state from the recorded one."""
    model = model_of(fixture)
    both = model.decoder = BothDecoders(model.decoder)
    noise = Replay(fixture["draws"])
    with torch.no_grad():
        end = model.decode(fixture["z"], noise, num_atoms=fixture["num_atoms"], atomic_numbers=fixture["initial_types"])
    final = fixture["final"]
    apart = end.frac_coords - final["frac_coords"]
    return {
        "all_draws_used": next(noise.draws, None) is None,
        "evaluations": both.evaluations,
        "types_equal": bool((end.atomic_numbers == final["atom_types"]).all()),
        "frac_coords": float((apart - apart.round()).abs().max()),
        "decoders_apart": both.apart,
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(replay(torch.load(sys.argv[1], weights_only=True))))
