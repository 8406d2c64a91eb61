"""Stability: relaxation with a machine-learned potential and energy above the hull of real phases."""
