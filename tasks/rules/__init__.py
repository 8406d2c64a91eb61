"""Rules of other published evaluations where they differ from ours: what `--rules` switches on."""
