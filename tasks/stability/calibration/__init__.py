"""From an energy above a potential's hull to the probability that DFT calls the crystal stable."""

from tasks.stability.calibration.measured_error import measured_error
from tasks.stability.calibration.probability import (
    FITTED_WITH,
    Calibration,
    NoCalibration,
    essence,
    find_calibration,
    stable_rate,
)

__all__ = [
    "FITTED_WITH",
    "Calibration",
    "NoCalibration",
    "essence",
    "find_calibration",
    "measured_error",
    "stable_rate",
]
