"""The weights of a CDVAE of ours under their published names, for tests of reading published checkpoints."""

import re

import torch

OUTER = {
    "offsets": "radial_basis.rbf.offset",
    "rbf_triplets.weight": "mlp_rbf3.linear.weight",
    "rbf_atoms.weight": "mlp_rbf_h.linear.weight",
    "rbf_outputs.weight": "mlp_rbf_out.linear.weight",
    "circular": "mlp_cbf3.weight",
    "atom_embedding.weight": "atom_emb.embeddings.weight",
    "latent_mixing.weight": "atom_latent_emb.weight",
    "latent_mixing.bias": "atom_latent_emb.bias",
}
INTERACTION = {
    "skip.weight": "dense_ca.linear.weight",
    "triplets.dense.weight": "trip_interaction.dense_ba.linear.weight",
    "triplets.rbf.weight": "trip_interaction.mlp_rbf.linear.weight",
    "triplets.rbf_scale": "trip_interaction.scale_rbf.scale_factor",
    "triplets.triplet_scale": "trip_interaction.scale_cbf_sum.scale_factor",
    "triplets.down.weight": "trip_interaction.down_projection.linear.weight",
    "triplets.up.weight": "trip_interaction.up_projection_ca.linear.weight",
    "triplets.up_reverse.weight": "trip_interaction.up_projection_ac.linear.weight",
    "atom_rbf.weight": "atom_update.dense_rbf.linear.weight",
    "atom_scale": "atom_update.scale_sum.scale_factor",
    "atom_in.weight": "atom_update.layers.0.linear.weight",
}
OUTPUT = {
    "dense.weight": "seq_forces.0.linear.weight",
    "rbf.weight": "dense_rbf_F.linear.weight",
    "scale": "scale_rbf_F.scale_factor",
    "out.weight": "out_forces.linear.weight",
}
LISTS = {
    "before_skip": ("layers_before_skip", 0),
    "after_skip": ("layers_after_skip", 0),
    "atom_layers": ("atom_update.layers", 1),
    "edge_layers": ("residual_m", 0),
    "layers": ("seq_forces", 1),
}
HEADS = {
    "mean": "fc_mu",
    "log_variance": "fc_var",
    "num_atoms_head": "fc_num_atoms",
    "lattice_head": "fc_lattice",
    "composition_head": "fc_composition",
}


def published_block_name(name, names):
    if name in names:
        return names[name]
    kind, number, layer = re.fullmatch(r"(\w+)\.(\d+)\.(first|second)\.weight", name).groups()
    stem, offset = LISTS[kind]
    return f"{stem}.{int(number) + offset}.dense_mlp.{int(layer == 'second')}.linear.weight"


def published_decoder(decoder):
    """The decoder's weights; the energy's, which nothing reads, are made up."""
    weights, published = decoder.state_dict(), {}
    for name, value in weights.items():
        parts = re.fullmatch(r"(.*)edge_embedding\.(source|target|edge)\.weight", name)
        if parts:
            if parts[2] == "source":
                joined = [weights[f"{parts[1]}edge_embedding.{part}.weight"] for part in ("source", "target", "edge")]
                block = parts[1].replace("interactions", "int_blocks")
                key = f"{block}concat_layer.dense.linear.weight" if block else "edge_emb.dense.linear.weight"
                published[f"gemnet.{key}"] = torch.cat(joined, dim=1)
            continue
        block = re.fullmatch(r"(interactions|outputs)\.(\d+)\.(.+)", name)
        if name in OUTER:
            published[f"gemnet.{OUTER[name]}"] = value
        elif block is None:
            published[name.replace("type_logits", "fc_atom")] = value
        elif block[3] == "triplets.bilinear.weight":
            cbf, trip = decoder.config.emb_size_cbf, decoder.config.emb_size_trip
            key = f"gemnet.int_blocks.{block[2]}.trip_interaction.mlp_cbf.weight"
            published[key] = value.view(-1, cbf, trip).permute(2, 1, 0).contiguous()
        elif block[1] == "interactions":
            published[f"gemnet.int_blocks.{block[2]}.{published_block_name(block[3], INTERACTION)}"] = value
        else:
            published[f"gemnet.out_blocks.{block[2]}.{published_block_name(block[3], OUTPUT)}"] = value
            published[f"gemnet.out_blocks.{block[2]}.out_energy.linear.weight"] = torch.zeros(1)
    published["gemnet.cbf_basis3.radial_basis.rbf.offset"] = weights["offsets"]
    return published


def published_state_dict(model):
    """All weights of a CDVAE."""
    published = {f"decoder.{key}": value for key, value in published_decoder(model.decoder).items()}
    published |= {f"encoder.{key}": value for key, value in model.encoder.state_dict().items()}
    for name, value in model.state_dict().items():
        head, _, rest = name.partition(".")
        if head in HEADS:
            published[f"{HEADS[head]}.{rest}"] = value
    return published | {"sigmas": model.sigmas, "type_sigmas": model.type_sigmas}
