"""Published CDVAE checkpoints, read into our modules without running any code that they may carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from models.baselines.cdvae.autoencoder import CDVAE, CDVAEConfig
from models.baselines.cdvae.encoder import DimeNetPlusPlus, EncoderConfig
from models.baselines.cdvae.gemnet import GemNetConfig, GemNetT
from models.weights import read_foreign_checkpoint, read_foreign_scaler

# Published name -> ours, applied in this order to every weight of the decoder.
_DECODER_NAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^gemnet\.", ""),
        (r"^radial_basis\.rbf\.offset$", "offsets"),
        (r"^mlp_rbf3\.", "rbf_triplets."),
        (r"^mlp_rbf_h\.", "rbf_atoms."),
        (r"^mlp_rbf_out\.", "rbf_outputs."),
        (r"^mlp_cbf3\.weight$", "circular"),
        (r"^atom_emb\.embeddings\.", "atom_embedding."),
        (r"^atom_latent_emb\.", "latent_mixing."),
        (r"^fc_atom\.", "type_logits."),
        (r"^edge_emb\.dense\.|concat_layer\.dense\.", "edge_embedding."),
        (r"^out_blocks\.(\d+)\.", r"outputs.\1."),
        (r"^int_blocks\.(\d+)\.", r"interactions.\1."),
        (r"\.dense_rbf_F\.", ".rbf."),
        (r"\.scale_rbf_F\.scale_factor$", ".scale"),
        (r"\.out_forces\.", ".out."),
        (r"\.seq_forces\.0\.", ".dense."),
        (r"\.seq_forces\.", ".force_layers."),
        (r"\.dense_ca\.", ".skip."),
        (r"\.trip_interaction\.", ".triplets."),
        (r"\.dense_ba\.", ".dense."),
        (r"\.mlp_rbf\.", ".rbf."),
        (r"\.mlp_cbf\.", ".bilinear."),
        (r"\.scale_rbf\.scale_factor$", ".rbf_scale"),
        (r"\.scale_cbf_sum\.scale_factor$", ".triplet_scale"),
        (r"\.down_projection\.", ".down."),
        (r"\.up_projection_ca\.", ".up."),
        (r"\.up_projection_ac\.", ".up_reverse."),
        (r"\.layers_(before|after)_skip\.", r".\1_skip."),
        (r"\.atom_update\.dense_rbf\.", ".atom_rbf."),
        (r"\.atom_update\.scale_sum\.scale_factor$", ".atom_scale"),
        (r"\.atom_update\.layers\.0\.", ".atom_in."),
        (r"\.atom_update\.layers\.", ".atom_layers."),
        (r"\.residual_m\.", ".edge_layers."),
        (r"\.dense_mlp\.0\.", ".first."),
        (r"\.dense_mlp\.1\.", ".second."),
        (r"\.linear\.", "."),
    )
)
# GemNet's energy, which CDVAE computes and throws away, and a second copy of the Gaussians' centres.
_UNUSED = re.compile(
    r"gemnet\.(cbf_basis3\.radial_basis\.rbf\.offset$"
    r"|out_blocks\.\d+\.(dense_rbf\.|scale_sum\.|layers\.|seq_energy\.|out_energy\.))"
)
# The published list of layers counts the first, dense one too.
_COUNTED_FROM_ONE = re.compile(r"\.(force_layers|atom_layers)\.(\d+)\.")
_HEADS = {
    "fc_mu": "mean",
    "fc_var": "log_variance",
    "fc_num_atoms": "num_atoms_head",
    "fc_lattice": "lattice_head",
    "fc_composition": "composition_head",
}


def rename_decoder(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published decoder weights in our names and shapes; unknown names stay, so that loading them says so."""
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if _UNUSED.match(key):
            continue
        name = key
        for pattern, replacement in _DECODER_NAMES:
            name = pattern.sub(replacement, name)
        name = _COUNTED_FROM_ONE.sub(lambda found: f".{found[1].replace('force_', '')}.{int(found[2]) - 1}.", name)
        if name.endswith("edge_embedding.weight"):
            hidden = len(value)
            parts = value.split([hidden, hidden, value.shape[1] - 2 * hidden], dim=1)
            for part, weight in zip(("source", "target", "edge"), parts, strict=True):
                renamed[name.replace("weight", f"{part}.weight")] = weight
        elif name.endswith("bilinear.weight"):
            renamed[name] = value.permute(2, 1, 0).flatten(1)  # (trip, cbf, out) -> (out, cbf trip)
        else:
            renamed[name] = value
    return renamed


def decoder_from_official(state_dict: Mapping[str, Tensor], radius: float = 7.0, max_neighbors: int = 20) -> GemNetT:
    """A GemNet-T with published weights and activation scales, every size read from their shapes.

    The cutoff (A) and the number of neighbours have no shape. ValueError says what is missing or unknown.
    """
    need = ("gemnet.atom_emb.embeddings.weight", "gemnet.int_blocks.0.trip_interaction.mlp_cbf.weight", "fc_atom.bias")
    shape = _shapes(state_dict, need, "a published CDVAE decoder")
    num_types, hidden = shape["gemnet.atom_emb.embeddings.weight"]
    trip, cbf, bilinear = shape["gemnet.int_blocks.0.trip_interaction.mlp_cbf.weight"]
    block = "gemnet.int_blocks.0"
    config = GemNetConfig(
        hidden_dim=hidden,
        latent_dim=shape["gemnet.atom_latent_emb.weight"][1] - hidden,
        num_types=num_types,
        num_blocks=_count(state_dict, "gemnet.int_blocks"),
        num_spherical=shape["gemnet.mlp_cbf3.weight"][0],
        num_radial=shape["gemnet.mlp_cbf3.weight"][1],
        emb_size_trip=trip,
        emb_size_rbf=shape["gemnet.mlp_rbf3.linear.weight"][0],
        emb_size_cbf=cbf,
        emb_size_bil_trip=bilinear,
        num_before_skip=_count(state_dict, f"{block}.layers_before_skip"),
        num_after_skip=_count(state_dict, f"{block}.layers_after_skip"),
        num_concat=_count(state_dict, f"{block}.residual_m"),
        num_atom=_count(state_dict, f"{block}.atom_update.layers") - 1,
        radius=radius,
        max_neighbors=max_neighbors,
    )
    decoder = GemNetT(config).to(state_dict["fc_atom.bias"].dtype)
    _load(decoder, rename_decoder(state_dict), "a published CDVAE decoder")
    return decoder.eval()


def encoder_from_official(
    state_dict: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None
) -> DimeNetPlusPlus:
    """A DimeNet++ with published weights, every size read from their shapes.

    settings: the published encoder section, for what has no shape: `num_spherical`, `cutoff`, `max_num_neighbors`,
    `envelope_exponent`, `readout`. The graph is always made on the fly, whatever `otf_graph` says.
    """
    need = ("rbf.freq", "emb.emb.weight", "output_blocks.0.lin.weight", "interaction_blocks.0.lin_sbf1.weight")
    shape = _shapes(state_dict, need, "a published CDVAE encoder")
    block = "interaction_blocks.0"
    unshaped = {"cutoff": float, "max_num_neighbors": int, "envelope_exponent": int, "readout": str}
    config = EncoderConfig(
        hidden_channels=shape["emb.emb.weight"][1],
        num_blocks=_count(state_dict, "interaction_blocks"),
        int_emb_size=shape[f"{block}.lin_down.weight"][0],
        basis_emb_size=shape[f"{block}.lin_sbf1.weight"][0],
        out_emb_channels=shape["output_blocks.0.lin.weight"][1],
        num_spherical=shape[f"{block}.lin_sbf1.weight"][1] // shape["rbf.freq"][0],
        num_radial=shape["rbf.freq"][0],
        num_before_skip=_count(state_dict, f"{block}.layers_before_skip"),
        num_after_skip=_count(state_dict, f"{block}.layers_after_skip"),
        num_output_layers=_count(state_dict, "output_blocks.0.lins"),
        num_elements=shape["emb.emb.weight"][0],
        **{key: unshaped[key](value) for key, value in (settings or {}).items() if key in unshaped},
    )
    encoder = DimeNetPlusPlus(config, num_targets=shape["output_blocks.0.lin.weight"][0])
    encoder.to(state_dict["emb.emb.weight"].dtype)
    _load(encoder, state_dict, "a published CDVAE encoder")
    return encoder.eval()


def cdvae_from_official(
    state_dict: Mapping[str, Tensor],
    lattice_scaler: tuple[Tensor, Tensor],
    settings: Mapping[str, Any] | None = None,
) -> CDVAE:
    """A whole CDVAE with published weights, every size read from their shapes.

    lattice_scaler: (means, stds), (6,) each. settings: the published model section with its "encoder", "decoder" and
    "data" sections, for what has no shape; the published values where it says nothing.
    """
    need = ("fc_mu.weight", "fc_num_atoms.0.weight", "fc_lattice.0.weight", "sigmas", "type_sigmas")
    shape = _shapes(state_dict, need, "a published CDVAE")
    settings = settings or {}
    data = settings.get("data") or {}
    encoder = encoder_from_official(_under(state_dict, "encoder"), settings.get("encoder"))
    network = {**settings, **(settings.get("decoder") or {})}
    radius, max_neighbors = float(network.get("radius", 7.0)), int(network.get("max_neighbors", 20))
    decoder = decoder_from_official(_under(state_dict, "decoder"), radius, max_neighbors)
    head_layers = _count(state_dict, "fc_num_atoms") - 1
    sigmas, type_sigmas = state_dict["sigmas"], state_dict["type_sigmas"]
    published = CDVAEConfig()
    costs = ("cost_natom", "cost_coord", "cost_type", "cost_lattice", "cost_composition")
    weights = [float(settings.get(k, v)) for k, v in zip(costs, published.loss_weights, strict=True)]
    config = CDVAEConfig(
        latent_dim=shape["fc_mu.weight"][0],
        hidden_dim=shape["fc_num_atoms.0.weight"][0],
        num_head_layers=head_layers,
        max_atoms=shape[f"fc_num_atoms.{2 * head_layers}.weight"][0] - 1,
        encoder=encoder.config,
        decoder=decoder.config,
        num_levels=len(sigmas),
        sigma_range=(float(sigmas[0]), float(sigmas[-1])),
        type_sigma_range=(float(type_sigmas[0]), float(type_sigmas[-1])),
        loss_weights=(weights[0], weights[1], weights[2], weights[3], weights[4]),
        kl_weight=float(settings.get("beta", published.kl_weight)),
        scale_lengths=data.get("lattice_scale_method", "scale_length") == "scale_length",
    )
    model = CDVAE(config).to(state_dict["fc_mu.weight"].dtype)
    model.encoder, model.decoder = encoder, decoder
    own = {
        f"{ours}.{key}": value for theirs, ours in _HEADS.items() for key, value in _under(state_dict, theirs).items()
    }
    means, stds = lattice_scaler
    own |= {"sigmas": sigmas, "type_sigmas": type_sigmas, "lattice_mean": means, "lattice_std": stds}
    rest = {key: value for key, value in model.state_dict().items() if key.startswith(("encoder.", "decoder."))}
    _load(model, rest | own, "a published CDVAE")
    return model.eval()


def from_official(folder: str | Path) -> CDVAE:
    """The CDVAE of a published checkpoint folder: `*.ckpt`, `hparams.yaml` and `lattice_scaler.pt`.

    Of several checkpoints the one of the last epoch, as published. `prop_scaler.pt` and a property head are not needed
    to generate and are left alone. No file of the folder can run code: pickles give plain containers and tensors, the
    YAML is loaded safely. ValueError names the file and what is wrong with it.
    """
    folder = Path(folder)
    checkpoint = published_checkpoint(folder)
    state_dict = read_foreign_checkpoint(checkpoint)["state_dict"]
    tensors = {key: value for key, value in state_dict.items() if isinstance(value, torch.Tensor)}
    try:
        return cdvae_from_official(tensors, _lattice_scaler(folder), _settings(folder / "hparams.yaml"))
    except (TypeError, ValueError) as error:  # TypeError: a setting of another kind than the published ones
        raise ValueError(f"{checkpoint}: {error}") from None


def published_checkpoint(folder: Path) -> Path:
    """The checkpoint of the last epoch in a folder. ValueError where it holds none."""
    checkpoints = sorted(folder.glob("*.ckpt"), key=lambda path: (_epoch(path), path.name))
    if not checkpoints:
        raise ValueError(f"{folder}: holds no published checkpoint (*.ckpt)")
    return checkpoints[-1]


def _epoch(checkpoint: Path) -> int:
    found = re.search(r"epoch=(\d+)", checkpoint.name)
    return int(found[1]) if found else -1


def _lattice_scaler(folder: Path) -> tuple[Tensor, Tensor]:
    means, stds = read_foreign_scaler(folder / "lattice_scaler.pt")
    if means.shape != (6,) or stds.shape != (6,):
        raise ValueError(f"lattice_scaler.pt has shapes {tuple(means.shape)} and {tuple(stds.shape)}, not (6,) twice")
    return means, stds


def _settings(path: Path) -> dict[str, Any]:
    """Of a `hparams.yaml` the model section, with its "encoder" and "decoder" and the "data" section inside.

    `${section.name}`, which hydra leaves in it, is filled in.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError(f"{path.name} has no section 'model'")

    def followed(value: Any) -> Any:
        for _ in range(8):  # references to references
            reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
            if reference is None:
                break
            value = content
            for name in reference[1].split("."):
                value = value.get(name) if isinstance(value, dict) else None
        return value

    def section(value: Any) -> dict[str, Any]:
        """Its plain values: what is nested in it is not used, and may be a tree of aliases without end."""
        value = followed(value)
        values = {key: followed(inner) for key, inner in value.items()} if isinstance(value, dict) else {}
        return {str(key): inner for key, inner in values.items() if isinstance(inner, str | int | float)}

    model = content["model"]
    parts = {"encoder": model.get("encoder"), "decoder": model.get("decoder"), "data": content.get("data")}
    return {**section(model), **{name: section(part) for name, part in parts.items()}}


def _under(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix + "."): v for k, v in state_dict.items() if k.startswith(prefix + ".")}


def _shapes(state_dict: Mapping[str, Tensor], needed: tuple[str, ...], what: str) -> dict[str, tuple[int, ...]]:
    missing = [key for key in needed if key not in state_dict]
    if missing:
        raise ValueError(f"not {what}: it has no {', '.join(missing)}")
    return {key: tuple(value.shape) for key, value in state_dict.items()}


def _count(state_dict: Mapping[str, Tensor], stem: str) -> int:
    """How many numbered modules stand under `stem`."""
    return len({key[len(stem) + 1 :].split(".")[0] for key in state_dict if key.startswith(stem + ".")})


def _load(module: Any, state_dict: Mapping[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(dict(state_dict))
    except RuntimeError as error:
        raise ValueError(f"not {what}: {' '.join(str(error).split())[:300]}") from None
