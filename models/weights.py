"""Weights as files: our own safetensors with a JSON card, and foreign checkpoints read without running their code."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.atomic import replacement, write_json

SHIPPED = Path(__file__).parent / "shipped"


def weights_path(model: str, dataset: str, preset: str) -> Path:
    """Where the package keeps the weights of a model, whether they exist or not."""
    return SHIPPED / f"{model}-{dataset}-{preset}.safetensors"


def find_weights(model: str, dataset: str, preset: str) -> Path:
    """Shipped weights of a model. ValueError lists those that exist and says how to train others."""
    path = weights_path(model, dataset, preset)
    if not path.exists():
        known = sorted(p.stem for p in SHIPPED.glob("*.safetensors"))
        raise ValueError(
            f"no weights of {model} for {dataset}, preset {preset} (shipped: {', '.join(known) or 'none'}); "
            f"train them: python -m bench train --model {model} --dataset {dataset} --preset {preset} --out OUT, and "
            f"name them: --models {model}=OUT/weights.safetensors"
        )
    return path


# What may differ between the configuration of a training and that of the weights it starts from, and between those of a
# weak network and the one that it guides.
MAY_DIFFER_AT_THE_START = ("sampler", "loss_weights", "temperature")
MAY_DIFFER_IN_A_WEAK_NETWORK = (*MAY_DIFFER_AT_THE_START, "network")


def beside_or_shipped(weights: Path, part: str, model: str, dataset: str, preset: str = "cpu") -> Path:
    """Weights of a model that another one needs: beside that one's, -PART after their name, or the shipped ones."""
    beside = weights.with_name(f"{weights.stem}-{part}{weights.suffix}")
    return beside if beside.exists() else find_weights(model, dataset, preset)


def differing_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any], may_differ: Collection[str]) -> list[str]:
    """Where two configurations differ, as a card writes them, and may not. None is what a card does not name."""
    one, other = (json.loads(json.dumps(config), object_hook=_without_none) for config in (ours, theirs))
    return sorted(key for key in (one.keys() | other.keys()) - set(may_differ) if one.get(key) != other.get(key))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def save_weights(path: Path, state_dict: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Writes PATH (safetensors) and PATH with suffix .json (the card, which gets the file's SHA-256)."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as partial:
        save_file({k: v.detach().cpu().contiguous() for k, v in state_dict.items()}, partial)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    write_json(path.with_suffix(".json"), {**card, "sha256": digest})


def read_card(path: Path) -> dict[str, Any]:
    """The card beside a weights file. ValueError where it is missing or not JSON."""
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: its card {card_path.name} is missing; both files belong together") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{card_path}: not JSON ({error}); get the file again") from None
    if not isinstance(card, dict):
        raise ValueError(f"{card_path}: not a card; get the file again")
    return card


def require_trained_for(model: str, dataset: str, card: Mapping[str, Any], weights: Path) -> None:
    """ValueError where a card says that its weights are of another model or were trained on another data set."""
    if card.get("model", model) != model:
        raise ValueError(f"{weights}: weights of {card['model']}, not of {model}")
    trained_on = card.get("dataset", dataset)
    if trained_on != dataset:
        raise ValueError(f"{weights}: trained on {trained_on}, which --dataset {dataset} is not; choose others")


def read_config(weights: Path, model: str, dataset: str, from_card: Callable[[dict[str, Any]], Any], name: str) -> Any:
    """The configuration that a weights file's card has, by `from_card`.

    name: what an error calls the model. ValueError where the card is of another model or data set, or has none.
    """
    card = read_card(weights)
    require_trained_for(model, dataset, card, weights)
    try:
        return from_card(card["config"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{weights.with_suffix('.json')}: no configuration of {name} ({error!r}); get the file again"
        ) from None


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and card of a weights file; the checksum in the card must match. ValueError says what is wrong."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    card = read_card(path)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.get("sha256"):
        raise ValueError(
            f"{path}: corrupt weights, SHA-256 {digest[:12]} is not the card's {str(card.get('sha256'))[:12]}; "
            "reinstall the package or train again"
        )
    try:
        return load(content), card
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error}); reinstall the package or train again") from None


def load_into(module: nn.Module, state_dict: Mapping[str, Tensor], path: Path) -> None:
    """Loads a state dict strictly. ValueError names the file and the first keys that do not fit."""
    try:
        module.load_state_dict(dict(state_dict))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: weights do not fit the network of their card: {reason}") from None


class _Inert:
    """Stands for a class named in a foreign pickle; takes any construction, state and content, runs nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({k: v for k, v in state.items() if isinstance(k, str)})

    def __setitem__(self, key: Any, value: Any) -> None:
        """What a dictionary of foreign type holds is left out; below, what its lists and sets hold."""

    def append(self, item: Any) -> None:
        """Leaves it out."""

    extend = add = append


# What a PyTorch checkpoint's pickle needs to rebuild tensors and plain containers. All else becomes inert.
_ALLOWED = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch", "Size"),
    ("torch", "device"),
}


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage") and "." not in name:
            return super().find_class(module, name)
        if (module, name) in _ALLOWED or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        return type(name, (_Inert,), {})


class _SafePickle:
    """What `torch.load(pickle_module=...)` asks of a pickle module."""

    __name__ = "models.weights._SafePickle"
    Unpickler = _SafeUnpickler

    @staticmethod
    def load(file: Any, **kwargs: Any) -> Any:
        return _SafeUnpickler(file, **kwargs).load()


def read_foreign_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint made by other code (Lightning `.ckpt`, a pickled scaler) as plain containers and tensors on the CPU.

    Classes that the pickle names are not imported: objects become inert namespaces with their attributes.
    ValueError names the file when it cannot be read or is not a mapping with "state_dict".
    """
    content = _load_inert(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise ValueError(f"{path}: not a Lightning checkpoint (no state_dict inside)")
    for key, value in content["state_dict"].items():
        if not isinstance(value, Tensor):
            continue
        stored = value.untyped_storage().nbytes() // value.element_size()
        if value.numel() > stored:  # strides of 0 repeat what is stored once, and a copy would not
            raise ValueError(f"{path}: {key} has {value.numel()} values, but {stored} are stored")
    return content


def read_foreign_scaler(path: Path) -> tuple[Tensor, Tensor]:
    """(means, stds) of a published `lattice_scaler.pt` or `prop_scaler.pt`, read without running its code."""
    content = _load_inert(path)
    means, stds = getattr(content, "means", None), getattr(content, "stds", None)
    if means is None or stds is None:
        raise ValueError(f"{path}: not a published scaler (no means and stds inside)")
    try:
        return torch.as_tensor(means), torch.as_tensor(stds)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{path}: not a published scaler (its means and stds are no numbers)") from None


def _load_inert(path: Path) -> Any:
    try:
        _refuse_other_archives(path)
        return torch.load(path, map_location="cpu", pickle_module=_SafePickle, weights_only=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # a hostile or broken pickle may raise anything
        raise ValueError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}: {error})") from None


def _refuse_other_archives(path: Path) -> None:
    """ValueError for what torch.save does not write: plain pickles, archives that are packed, and TorchScript.

    TorchScript is code, which `torch.load` would run whatever unpickles the rest. It is looked for through PyTorch's
    own eyes: Python's zipfile may see another list of files in a crafted archive.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise ValueError("no zip archive, as torch.save writes them since version 1.6")
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise ValueError("an archive of TorchScript, which is code")
    with zipfile.ZipFile(path) as archive:
        packed = next((info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise ValueError(f"{packed.filename} in it is compressed, which torch.save never does")
