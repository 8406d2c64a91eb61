"""From an energy above a potential's hull to the probability that DFT calls the crystal stable."""

from tasks.stability.calibration.probability import Calibration, NoCalibration, find_calibration, stable_rate

__all__ = ["Calibration", "NoCalibration", "find_calibration", "stable_rate"]
