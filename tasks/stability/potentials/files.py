"""Where the weights of potentials lie, and their checksums; imports none of their libraries."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.errors import one_line

# The folder's name under BENCH_POTENTIALS_DIR and in matgl's own organisation on the Hugging Face hub.
MATGL_FOLDERS: Mapping[str, str] = MappingProxyType(
    {"m3gnet": "M3GNet-MP-2021.2.8-PES", "tensornet": "TensorNet-MatPES-PBE-v2025.1-PES"}
)
MATGL_FILES = ("model.json", "model.pt", "state.pt")
MATGL_ORGANISATION = "materialyze"
HUB_TIMEOUT_S = 5.0  # to connect, and to the first byte
CHGNET_VERSION = "0.3.0"
# Folder in the package's `pretrained_potentials`, and the name by which the package loads it.
SEVENNET_MODELS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"sevennet": ("SevenNet_0__11Jul2024", "7net-0"), "sevennet-l3i5": ("SevenNet_l3i5", "7net-l3i5")}
)
BUILT_IN = ("chgnet", *MATGL_FOLDERS, *SEVENNET_MODELS)


class PotentialNotHere(ValueError):
    """A known potential whose package or weights are nowhere at hand; the message says what was looked for."""


@dataclass(frozen=True)
class Source:
    """Files of a potential. kind: how they are loaded. package: whose they are. version: of the weights."""

    name: str
    kind: str
    package: str
    version: str
    path: Path
    files: tuple[Path, ...]

    def description(self) -> dict[str, Any]:
        """What numbers depend on, as plain JSON."""
        return {
            "name": self.name,
            "weights": self.version,
            "sha256": _sha256(self.files),
            "package": f"{self.package} {version(self.package)}",
        }


@functools.cache
def _sha256(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def find_source(name: str, download: bool = True) -> Source:
    """The files of a potential by name, or of a matgl model folder by path. download: where they are nowhere at hand.

    PotentialNotHere says what is missing; ValueError where there is no such potential or its package is damaged.
    """
    if name == "chgnet":
        _require_package("chgnet", name)
        return _in_package(name, "chgnet", f"pretrained/{CHGNET_VERSION}", CHGNET_VERSION)
    if name in SEVENNET_MODELS:
        _require_package("sevenn", name)
        folder, weights = SEVENNET_MODELS[name]
        return _in_package(name, "sevenn", f"pretrained_potentials/{folder}", weights)
    if name in MATGL_FOLDERS:
        _require_package("matgl", name)
        folder = MATGL_FOLDERS[name]
        return _matgl(name, name, _matgl_folder(folder, download), folder)
    path = Path(name)
    if is_matgl_folder(path):
        _require_package("matgl", name)
        return _matgl(path.name, "m3gnet", path, path.name)
    raise ValueError(
        f"unknown potential {name!r}; known are {', '.join(BUILT_IN)}, those of installed plug-ins, or "
        f"the path of a matgl model folder ({', '.join(MATGL_FILES)})"
    )


def is_matgl_folder(path: Path) -> bool:
    """Whether all files of a matgl model are there."""
    return all((path / file).is_file() for file in MATGL_FILES)


def _require_package(package: str, name: str) -> None:
    try:
        version(package)
    except PackageNotFoundError:
        raise PotentialNotHere(f"the potential {name} needs the package {package}: pip install {package}") from None


def _in_package(name: str, package: str, folder: str, weights: str) -> Source:
    """Weights that a package brings with it, in one file."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"the potential {name}: the package {package} is damaged; install it again")
    path = Path(spec.origin).parent / folder
    files = tuple(sorted(file for file in path.glob("*") if ".pth" in file.suffixes))
    if len(files) != 1:
        raise ValueError(f"the potential {name}: there are {len(files)} files of weights in {path} instead of one")
    return Source(name, name, package, weights, path, files)


def _matgl(name: str, kind: str, folder: Path, weights: str) -> Source:
    return Source(name, kind, "matgl", weights, folder, tuple(folder / file for file in MATGL_FILES))


def _require_hub() -> None:
    """OSError where the hub does not answer: its own library would go on trying for minutes."""
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return  # which is said by the library, at once
    try:
        requests.head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except requests.RequestException as error:
        raise OSError(f"no answer from {constants.ENDPOINT} within {HUB_TIMEOUT_S:g} s") from error


def _matgl_folder(name: str, download: bool) -> Path:
    """From BENCH_POTENTIALS_DIR, the Hugging Face cache that matgl uses, or the hub."""
    named = os.environ.get("BENCH_POTENTIALS_DIR")
    if named and is_matgl_folder(Path(named) / name):
        return Path(named) / name
    from huggingface_hub import snapshot_download

    repository = f"{MATGL_ORGANISATION}/{name}"
    failure = ""
    for offline in (True, False) if download else (True,):
        try:
            if not offline:
                _require_hub()
            found = Path(snapshot_download(repository, allow_patterns=list(MATGL_FILES), local_files_only=offline))
        except (OSError, ValueError, RuntimeError) as error:  # no connection, no such repository
            failure = one_line(error)
        else:
            if is_matgl_folder(found):
                return found
            failure = f"{found} is not complete"
    looked = Path(named) / name if named else "BENCH_POTENTIALS_DIR (unset)"
    if not download:
        raise PotentialNotHere(f"neither in {looked} nor in matgl's cache")
    raise PotentialNotHere(
        f"the potential {name} is neither in {looked} nor in matgl's cache, and no download from {repository} "
        f"({failure}); put the folder into BENCH_POTENTIALS_DIR, or use chgnet, whose weights are in its package"
    )
