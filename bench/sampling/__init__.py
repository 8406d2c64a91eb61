"""From models or files to crystals: batch by batch, the time on the device measured."""
