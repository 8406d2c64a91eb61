"""Quality against training time: curves, times to a target, and what crystals cost with the training in it."""
