"""CDVAE in training: what it knows of the data, teacher forcing, and which losses train what."""

import numpy as np
import pytest
import torch

from models.baselines.cdvae.autoencoder import CDVAE
from models.dense import pack
from models.diffusion import SeededNoise
from tests.tiny_training import CDVAE_CONFIG, crystals


def test_cdvae_sees_the_predicted_cell_once_teacher_forcing_ends(monkeypatch):
    forced = []
    losses = CDVAE.losses

    def noted(self, batch, noise, teacher_forcing=True):
        forced.append(teacher_forcing)
        return losses(self, batch, noise, teacher_forcing)

    monkeypatch.setattr(CDVAE, "losses", noted)
    model = CDVAE(CDVAE_CONFIG)
    batch = pack(crystals(0))[0]
    for progress in (0.0, 0.49, 0.5, 0.9):
        model.stage_losses("cdvae", batch, SeededNoise.from_seed(0, "cpu"), progress)
    assert forced == [True, True, False, False]


def test_cdvae_knows_the_training_cells_from_its_first_step():
    model = CDVAE(CDVAE_CONFIG)
    model.fit_statistics("cdvae", pack(crystals(0)), seed=0)
    lengths = crystals(0).lattices[:, 0, :]
    expected = np.linalg.norm(lengths, axis=1) / crystals(0).num_atoms ** (1 / 3)
    assert float(model.lattice_mean[0]) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("teacher_forcing", [True, False])
@pytest.mark.parametrize("loss", ["coord", "type"])
def test_losses_of_coordinates_and_types_do_not_reach_the_lattice_head(loss, teacher_forcing):
    torch.manual_seed(0)
    model = CDVAE(CDVAE_CONFIG)
    model.fit_statistics("cdvae", pack(crystals(0)), seed=0)
    losses = model.losses(pack(crystals(0))[1], SeededNoise.from_seed(0, "cpu"), teacher_forcing)
    head = list(model.lattice_head.parameters())
    assert torch.autograd.grad(losses[loss], head, retain_graph=True, allow_unused=True) == (None,) * len(head)
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(losses["lattice"], head))


def test_the_predicted_cell_is_where_noise_is_added_all_the_same():
    torch.manual_seed(0)
    model = CDVAE(CDVAE_CONFIG)
    model.fit_statistics("cdvae", pack(crystals(0)), seed=0)
    found = [model.losses(pack(crystals(0))[1], SeededNoise.from_seed(0, "cpu"), forced) for forced in (True, False)]
    assert found[0]["coord"] != found[1]["coord"]
    assert found[0]["lattice"] == found[1]["lattice"]
