"""Benchmark harness for generative models of crystals: what a model gives for the device time spent."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("crysldm-bench")
except PackageNotFoundError:  # a bare checkout, not installed
    __version__ = "0+unknown"
