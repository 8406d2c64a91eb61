"""Files of `torch.save`, read without running anything that they name."""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import one_line

# Graphs of this package beside the arrays become empty stand-ins: they are passed over, not built.
_STOOD_FOR = "torch_geometric."
_TENSORS = ("_rebuild_tensor_v2", "_rebuild_parameter")


def _harmless() -> list[Any]:
    """What torch's own restricted loader may build besides: plain values, and NumPy's arrays of numbers."""
    from numpy._core import multiarray

    rebuild = multiarray._reconstruct  # its module had another name before NumPy 2
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    scalar = [(multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")]
    return [argparse.Namespace, pathlib.PosixPath, *names, *scalar, np.ndarray, np.dtype, *kinds]


def read_tensors(path: Path) -> Any:
    """What torch.save wrote, rebuilt without running code; tensors stay on the disk until they are used.

    ValueError where it is no such file, or names other objects than tensors, plain containers and torch_geometric's.
    """
    import torch

    if not zipfile.is_zipfile(path):
        raise ValueError("not a file of tensors: no zip archive, as torch.save writes them since version 1.6")
    try:
        with zipfile.ZipFile(path) as archive:
            packed = next((info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED), None)
            if packed is not None:
                raise ValueError(f"not a file of tensors: {packed.filename} in it is compressed")
        try:
            with torch.serialization.safe_globals(_harmless()):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            if _STOOD_FOR not in str(error):
                raise
        if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
            raise ValueError("not a file of tensors: an archive of TorchScript, which is code")
        return torch.load(path, map_location="cpu", pickle_module=_Pickle, weights_only=False, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        detail = f"it carries Python objects ({named[1]}), which are not loaded" if named else "it is damaged"
        remedy = "; save the arrays alone, as a dictionary of tensors" if named else ""
        raise ValueError(f"not a file of tensors: {detail}{remedy}") from error
    except ValueError:
        raise
    except Exception as error:  # a damaged file raises anything
        raise ValueError(f"not a file of tensors ({one_line(error)})") from error


class StandIn:
    """Takes the place of an object of torch_geometric: any construction, call and state, and keeps nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> StandIn:
        """Another one."""
        return StandIn()

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Keeps nothing."""

    extend = add = append


class _Unpickler(pickle._Unpickler):  # the one in Python: C's memo is as long as a file says
    def find_class(self, module: str, name: str) -> Any:
        import torch

        if f"{module}.".startswith(_STOOD_FOR):
            return type(name, (StandIn,), {})
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in _TENSORS:
            return getattr(torch._utils, name)
        if module == "torch" and "." not in name:
            found = getattr(torch, name, None)
            if name.endswith("Storage") or isinstance(found, torch.dtype) or name in ("Size", "device"):
                return found if found is not None else super().find_class(module, name)
        if (module, name) == ("argparse", "Namespace") or module == "pathlib":
            return type(name, (StandIn,), {})
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not loaded")


class _Pickle:
    """What `torch.load(pickle_module=...)` asks of a pickle module."""

    __name__ = "bench.crystal_io.tensor_files"
    Unpickler = _Unpickler

    @staticmethod
    def load(file: Any, **kwargs: Any) -> Any:
        """Unpickles with the restricted reader."""
        return _Unpickler(file, **kwargs).load()
