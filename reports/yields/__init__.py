"""Good crystals by the device time spent: curves, their tables and figure."""
