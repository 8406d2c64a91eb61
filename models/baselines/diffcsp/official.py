"""Published DiffCSP checkpoints, read into our modules without running any code that they may carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.cspnet import CSPNet, CSPNetConfig
from models.diffusion import CoordSchedule, GaussianSchedule
from models.weights import read_foreign_checkpoint

_LAYER_NAMES = {
    "edge_mlp.0": "edge_in",
    "edge_mlp.2": "edge_out",
    "node_mlp.0": "node_in",
    "node_mlp.2": "node_out",
    "layer_norm": "norm",
}
_OUTER_NAMES = {
    "node_embedding": "node_embedding",
    "atom_latent_emb": "time_mixing",
    "final_layer_norm": "trunk.final_norm",
    "coord_out": "coord_out",
    "lattice_out": "lattice_out",
    "type_out": "node_out",
}


def rename_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published CSPNet keys in our names. ValueError names a key that this network does not have."""
    renamed = {}
    for key, value in state_dict.items():
        stem, _, kind = key.rpartition(".")
        layer = re.fullmatch(r"csp_layer_(\d+)\.(.+)", stem)
        if layer and layer[2] in _LAYER_NAMES:
            renamed[f"trunk.layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.{kind}"] = value
        elif stem in _OUTER_NAMES:
            renamed[f"{_OUTER_NAMES[stem]}.{kind}"] = value
        else:
            raise ValueError(f"the published network has a weight {key!r} that ab initio CSPNet does not know")
    return renamed


def cspnet_from_official(state_dict: Mapping[str, Tensor], equivariant_lattice: bool = True) -> CSPNet:
    """A CSPNet with published weights, all sizes read from their shapes.

    state_dict: keys of the published network, with or without the prefix "decoder."; other prefixes (schedules) are
    left out. That of crystal structure prediction has an embedding of types and no output for them: it becomes the
    linear map of one-hot types, with an output of zeros. equivariant_lattice: the published option `ip`. The network
    has the weights' dtype.
    """
    if any(key.startswith("decoder.") for key in state_dict):
        state_dict = {k.removeprefix("decoder."): v for k, v in state_dict.items() if k.startswith("decoder.")}
    if "node_embedding.weight" in state_dict and not {"node_embedding.bias", "type_out.weight"} & state_dict.keys():
        state_dict = _with_linear_types(state_dict)
    missing = [
        k for k in ("node_embedding.weight", "type_out.weight", "csp_layer_0.edge_mlp.0.weight") if k not in state_dict
    ]
    if missing:
        raise ValueError(f"not a published ab initio DiffCSP network: it has no {', '.join(missing)}")
    hidden, node_dim = state_dict["node_embedding.weight"].shape
    edge_width = state_dict["csp_layer_0.edge_mlp.0.weight"].shape[1]
    gram_width = 9
    frequencies, rest = divmod(edge_width - 2 * hidden - gram_width, 6)
    if rest or frequencies < 1:
        raise ValueError(f"edge layer of width {edge_width} for hidden size {hidden}: no sinusoidal distance embedding")
    config = CSPNetConfig(
        node_dim=node_dim,
        hidden_dim=hidden,
        num_layers=len({k.split(".")[0] for k in state_dict if k.startswith("csp_layer_")}),
        num_frequencies=frequencies,
        time_dim=state_dict["atom_latent_emb.weight"].shape[1] - hidden,
        layer_norm="final_layer_norm.weight" in state_dict,
        equivariant_lattice=equivariant_lattice,
    )
    network = CSPNet(config).to(state_dict["node_embedding.weight"].dtype)
    network.load_state_dict(rename_official(state_dict))
    return network.eval()


def _with_linear_types(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the published structure prediction in the shapes of ab initio generation."""
    table = state_dict["node_embedding.weight"]  # (types, H)
    types, hidden = table.shape
    linear = {"node_embedding.weight": table.T.contiguous(), "node_embedding.bias": table.new_zeros(hidden)}
    output = {"type_out.weight": table.new_zeros(types, hidden), "type_out.bias": table.new_zeros(types)}
    return {**state_dict, **linear, **output}


def schedules_from_official(state_dict: Mapping[str, Tensor]) -> tuple[GaussianSchedule, CoordSchedule]:
    """The noise schedules that a published checkpoint carries; its score norms are random estimates of its own."""
    gaussian = GaussianSchedule(
        *(state_dict[f"beta_scheduler.{name}"].double() for name in ("betas", "alphas_cumprod", "sigmas"))
    )
    coords = CoordSchedule(
        state_dict["sigma_scheduler.sigmas"].double(), state_dict["sigma_scheduler.sigmas_norm"].double()
    )
    return gaussian, coords


def from_official(source: Mapping[str, Any] | str | Path) -> tuple[CSPNet, GaussianSchedule, CoordSchedule]:
    """Network and schedules of a published DiffCSP: a state dict, or a Lightning checkpoint file (`*.ckpt`).

    The file is unpickled with tensors and plain containers only; classes it names become inert placeholders, so no
    code of the file runs. ValueError names the file and what it lacks.
    """
    if isinstance(source, str | Path):
        checkpoint = read_foreign_checkpoint(Path(source))
        state_dict, hyper_parameters = checkpoint["state_dict"], checkpoint.get("hyper_parameters", {})
        decoder = hyper_parameters.get("decoder", {}) if isinstance(hyper_parameters, Mapping) else {}
        equivariant = bool(decoder.get("ip", True)) if isinstance(decoder, Mapping) else True
    else:
        state_dict, equivariant = source, True
    needed = ["beta_scheduler.betas", "sigma_scheduler.sigmas_norm"]
    if any(key not in state_dict for key in needed):
        raise ValueError(f"{source if isinstance(source, str | Path) else 'state dict'}: has no {' or '.join(needed)}")
    tensors = {k: v for k, v in state_dict.items() if isinstance(v, torch.Tensor)}
    return cspnet_from_official(tensors, equivariant), *schedules_from_official(tensors)
