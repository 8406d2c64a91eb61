"""Checkpoints made by other code: what Lightning puts beside the weights is passed over, and no code of theirs runs."""

import argparse
import collections
import enum
import os
import pickle
import zipfile

import pytest
import torch

from models.weights import read_foreign_checkpoint, read_foreign_scaler

WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3)}


class Settings(dict):
    """As Lightning's AttributeDict, or OmegaConf's containers."""


class Names(list):
    """A list of foreign type."""


class Mode(enum.Enum):
    MIN = "min"


class Scaler:
    def __init__(self, means, stds):
        self.means, self.stds = means, stds


def grouped():
    """A dictionary of foreign type that holds something."""
    cache = collections.defaultdict(dict)
    cache["resolver"]["env"] = "x"
    return cache


@pytest.mark.parametrize(
    "beside",
    [
        Settings(latent_dim=256, encoder=Settings(cutoff=7.0), names=Names(["a"])),
        {Settings: {"best_model_score": torch.tensor(1.0), "mode": Mode.MIN}},
        {Mode.MIN: 1},
        grouped(),
        collections.deque([1, 2]),
        {1, 2},
        argparse.Namespace(lr=1e-3),
        [torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).state_dict()],
        torch.float32,
    ],
    ids=["settings", "callbacks", "enumeration", "defaultdict", "deque", "set", "namespace", "optimizer", "dtype"],
)
def test_weights_are_read_whatever_lightning_put_beside_them(tmp_path, beside):
    torch.save({"state_dict": WEIGHTS, "beside": beside}, tmp_path / "a.ckpt")
    found = read_foreign_checkpoint(tmp_path / "a.ckpt")["state_dict"]
    assert torch.equal(found["layer.weight"], WEIGHTS["layer.weight"])


def test_a_scaler_of_any_class_gives_its_means_and_spreads(tmp_path):
    torch.save(Scaler(torch.arange(6.0), torch.ones(6)), tmp_path / "lattice_scaler.pt")
    means, stds = read_foreign_scaler(tmp_path / "lattice_scaler.pt")
    assert torch.equal(means, torch.arange(6.0)) and torch.equal(stds, torch.ones(6))


def test_a_scaler_of_no_numbers_is_refused(tmp_path):
    torch.save(Scaler({"a": 1}, "b"), tmp_path / "lattice_scaler.pt")
    with pytest.raises(ValueError, match="its means and stds are no numbers"):
        read_foreign_scaler(tmp_path / "lattice_scaler.pt")


class Bomb:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("read", [read_foreign_checkpoint, read_foreign_scaler])
@pytest.mark.parametrize("call", [(os.system, "touch exploded"), (eval, "open('exploded', 'w')")], ids=["os", "eval"])
def test_what_a_pickle_asks_to_call_is_not_called(tmp_path, monkeypatch, read, call):
    monkeypatch.chdir(tmp_path)
    torch.save(Bomb(*call), tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt"):
        read(tmp_path / "a.ckpt")
    torch.save({"state_dict": WEIGHTS, "beside": Bomb(*call)}, tmp_path / "b.ckpt")
    assert "beside" in read_foreign_checkpoint(tmp_path / "b.ckpt")
    assert not (tmp_path / "exploded").exists()


class Scripted(torch.nn.Module):
    """Prints when it is unpickled: TorchScript's code is in the archive and needs no class here."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x + self.weight

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        print("code of the file runs")
        self.weight = state[0]  # type: ignore[assignment]
        self.training = state[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_archive_of_torchscript_is_refused_before_its_code_runs(tmp_path, capfd):
    torch.jit.script(Scripted()).save(str(tmp_path / "a.ckpt"))
    with pytest.raises(ValueError, match="TorchScript, which is code"):
        read_foreign_checkpoint(tmp_path / "a.ckpt")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04 rubbish", pickle.dumps({"state_dict": {}})])
def test_what_is_no_archive_of_tensors_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt: cannot be read as a checkpoint"):
        read_foreign_checkpoint(tmp_path / "a.ckpt")


def test_a_compressed_archive_is_refused_for_it_may_be_a_bomb(tmp_path):
    torch.save({"state_dict": WEIGHTS}, tmp_path / "a.ckpt")
    packing = zipfile.ZipFile(tmp_path / "b.ckpt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "a.ckpt") as plain, packing as packed:
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info))
    with pytest.raises(ValueError, match=r"b\.ckpt: .* is compressed"):
        read_foreign_checkpoint(tmp_path / "b.ckpt")


def test_tensors_that_claim_more_values_than_the_file_holds_are_refused(tmp_path):
    torch.save({"state_dict": {"huge": torch.zeros(1).expand(10**12)}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"huge has 1000000000000 values, but 1 are stored"):
        read_foreign_checkpoint(tmp_path / "a.ckpt")
