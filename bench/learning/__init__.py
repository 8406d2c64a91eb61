"""Quality against training time: trainings under the device clock, snapshots of them, and their curves."""
