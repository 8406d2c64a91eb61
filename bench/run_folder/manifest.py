"""What ran: everything that a run's figures depend on, and whether two of them are the same protocol."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bench
from bench.datasets import DataUnavailable, split_hash
from bench.interfaces import Task

CODE = ("bench", "models", "tasks")
PACKAGES = ("numpy", "torch", "pymatgen", "smact", "scipy", "pyarrow")


def protocol(dataset: str, reference_sha256: str, tasks: Sequence[Task]) -> dict[str, Any]:
    """What the figures of two runs must share to stand in one table."""
    return {
        "dataset": dataset,
        "reference": reference_sha256,
        "tasks": {task.name: as_json(task.protocol()) for task in tasks},
    }


def protocol_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 of a protocol, first 16 digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def as_json(content: Any) -> Any:
    """The content as JSON gives it back (tuples as lists, keys as strings). ValueError where it is not JSON."""
    try:
        return json.loads(json.dumps(content, allow_nan=False))
    except TypeError as error:
        raise ValueError(f"not plain JSON: {error}") from None


def software() -> dict[str, str]:
    """Versions of Python, this package and the libraries that figures may depend on."""
    found = {"python": platform.python_version(), "crysldm-bench": bench.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def code_sha256() -> str:
    """SHA-256 of the Python code that crystals and rows come from: two versions may have one number."""
    root, digest = Path(bench.__file__).resolve().parent.parent, hashlib.sha256()
    for path in sorted(path for package in CODE for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def code_version() -> dict[str, str]:
    """Checksum of the code (`code_sha256`), first 16 digits, and its commit where it is a git checkout."""
    root = Path(bench.__file__).resolve().parent.parent
    found = {"sha256": code_sha256()[:16]}
    if not (root / ".git").exists():
        return found
    try:
        asked = ["git", "-C", str(root), "rev-parse", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git here, or a repository that it refuses
        return found
    return {**found, "commit": commit}


def data_at_hand(dataset: str) -> dict[str, str]:
    """Git blob SHA-1 of the training split, from which controls and novelty take crystals; empty without one."""
    try:
        return {"train": split_hash(dataset, "train")}
    except DataUnavailable:
        return {}


def session(workers: int, executor: str) -> dict[str, Any]:
    """One start of a process on a run. workers: of this machine. executor: what computed. code: which version."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "workers": workers,
        "executor": executor,
        "code": code_version(),
    }


def published(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without what belongs to one machine: its name, process numbers, and the folders of the files it took.

    For what leaves the machine, an archive or a row. Of a file its own name stays.
    """
    hull = manifest.get("hull")
    return {
        **manifest,
        **({} if hull is None else {"hull": Path(hull).name}),
        "models": {name: _without_folders(entry) for name, entry in manifest["models"].items()},
        "sessions": [{**session, "host": "", "pid": 0} for session in manifest.get("sessions", [])],
    }


def _without_folders(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a model, whose spec is that of `bench.model_specs`."""
    spec = dict(entry.get("spec", {}))
    for key in ("meta", "weights", *(("target",) if spec.get("is_file") else ())):
        if spec.get(key) is not None:
            spec[key] = Path(spec[key]).name
    if "=" in spec.get("text", ""):
        name, path = spec["text"].split("=", 1)
        spec["text"] = f"{name}={Path(path).name}"
    return {**entry, "spec": spec}


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Each leaf in which two JSON contents differ, as "place: old -> new"."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
    elif old != new:
        yield f"{place}: {json.dumps(old)} -> {json.dumps(new)}"


START_ANEW = "start a new run"  # the remedy where a run cannot go on


def require_same(old: Any, new: Any, what: str, remedy: str) -> None:
    """ValueError that shows the differences between what a run was made with and what stands now."""
    found = list(differences(old, new))
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise ValueError(f"{what} is not the same ({'; '.join(found[:5])}{more}); {remedy}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files below a folder."""
    digest = hashlib.sha256()
    for member in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if member.is_file():
            if path.is_dir():
                digest.update(f"{member.relative_to(path)}\0".encode())
            with open(member, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
