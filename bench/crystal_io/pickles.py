"""What torch.save wrote, rebuilt without running code: tensors, NumPy arrays and plain containers.

The restricted loader of torch builds only what it knows. Objects of other packages (a batch of torch-geometric, a
configuration) become inert stand-ins that keep their state, so that the arrays beside and in them can be read.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import one_line

MAX_PICKLE_BYTES = 2**28  # without the tensors, which stay on the disk until they are used
MAX_CLASSES = 200  # of foreign objects in one file
# Of Python's own modules only these hold nothing but values.
_HARMLESS_MODULES = ("argparse", "collections", "datetime", "decimal", "enum", "pathlib", "types", "typing", "uuid")
_PLAIN_KINDS = re.compile(r"[<>|=]?([fiu][1248]|b1|\?)")


class StandIn:
    """Takes the place of an object whose class is not loaded. state: what the file says of it, if anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        """Keeps it."""
        self.state = state


class _Maker:
    """In place of torch-geometric's object that makes a class of a batch: gives the stand-in, which is then called."""

    def __new__(cls, *args: Any) -> Any:
        return StandIn


class _Kind(StandIn):
    """A NumPy dtype."""

    def dtype(self) -> np.dtype[Any]:
        """It, where it is one of plain numbers; ValueError otherwise."""
        name = str(self.args[0]) if self.args else ""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        if not _PLAIN_KINDS.fullmatch(name) or order not in ("<", ">", "|", "="):
            raise ValueError(f"holds a NumPy array of {name or 'an unknown kind'}, not of numbers")
        return np.dtype(name).newbyteorder(order)  # type: ignore[arg-type]  # one of four signs


class _Array(StandIn):
    """A NumPy array, written as (version, shape, dtype, column-major, bytes)."""

    def array(self) -> np.ndarray[Any, Any]:
        """It. ValueError where it is none of plain numbers."""
        try:
            _, shape, kind, column_major, content = self.state
            values = np.frombuffer(content, kind.dtype())
            return values.reshape([int(n) for n in shape], order="F" if column_major else "C")
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"holds a damaged NumPy array ({one_line(error)})") from error


class _Scalar(StandIn):
    """One number of NumPy, written as (dtype, bytes)."""

    def array(self) -> np.ndarray[Any, Any]:
        """It, without axes. ValueError where it is none."""
        try:
            kind, content = self.args
            return np.frombuffer(content, kind.dtype())[:1].reshape(())
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"holds a damaged number of NumPy ({one_line(error)})") from error


_STAND_INS: dict[str, Any] = {
    "torch_geometric.data.batch.DynamicInheritanceGetter": _Maker,
    "numpy.dtype": _Kind,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _Scalar for core in ("core", "_core")},
}


def load_arrays(path: Path) -> Any:
    """The content of a file of torch.save, with `StandIn` for what is no tensor and no plain container.

    ValueError where it is none, is damaged, or names functions of Python itself.
    """
    import torch

    if not zipfile.is_zipfile(path):
        raise ValueError("not a file of tensors: no zip archive, as torch.save writes them since version 1.6")
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"not a file of tensors: {info.filename} in it is compressed")
                if info.filename.endswith("data.pkl") and info.file_size > MAX_PICKLE_BYTES:
                    raise ValueError(f"{info.file_size} bytes of objects; at most {MAX_PICKLE_BYTES} are read")
        with _nothing_else_known():
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            # The authors' scripts store their command line beside the tensors.
            known: list[Any] = [argparse.Namespace, pathlib.PosixPath]
            with torch.serialization.safe_globals([*known, *_stand_ins(foreign)]):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        detail = f"it carries Python objects ({named[1]}), which are not loaded" if named else one_line(error)
        raise ValueError(f"not a file of tensors: {detail}") from error
    except ValueError:
        raise
    except Exception as error:  # a damaged file raises anything
        raise ValueError(f"not a file of tensors ({one_line(error)})") from error


@contextmanager
def _nothing_else_known() -> Iterator[None]:
    """Without the classes that imported packages have told torch's loader to build: a file is read alike everywhere."""
    import torch

    known = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(known)


def _stand_ins(foreign: list[str]) -> list[tuple[Any, str]]:
    """Each name that torch does not know with what stands in for it. Python's own functions are left to be refused."""
    if len(foreign) > MAX_CLASSES:
        raise ValueError(f"not a file of tensors: it carries {len(foreign)} kinds of Python objects")
    chosen = []
    for name in foreign:
        module = name.partition(".")[0]
        if name in _STAND_INS:
            chosen.append((_STAND_INS[name], name))
        elif module in _HARMLESS_MODULES or ("." in name and module not in sys.stdlib_module_names):
            chosen.append((StandIn, name))
    return chosen


def mapping_of(content: Any) -> Mapping[Any, Any] | None:
    """What an object holds by name: a mapping, or the store of a torch-geometric object; None for anything else."""
    for _ in range(4):  # Data holds a store, which holds a mapping
        if isinstance(content, Mapping):
            if "_store" in content:
                content = content["_store"]
            elif "_mapping" in content:
                content = content["_mapping"]
            else:
                return content
        elif isinstance(content, StandIn):
            content = content.state
        else:
            return None
    return content if isinstance(content, Mapping) else None
