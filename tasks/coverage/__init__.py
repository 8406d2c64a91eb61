"""Coverage of the test split (COV-R, COV-P) by structure and composition fingerprints."""
