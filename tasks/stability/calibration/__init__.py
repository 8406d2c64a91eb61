"""From an energy above a potential's hull to the probability that DFT calls the crystal stable."""

from tasks.stability.calibration.measured_error import measured_error
from tasks.stability.calibration.probability import (
    Calibration,
    NoCalibration,
    find_calibration,
    first_difference,
    stable_rate,
)

__all__ = ["Calibration", "NoCalibration", "find_calibration", "first_difference", "measured_error", "stable_rate"]
