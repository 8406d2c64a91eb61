"""Composition first: p(N) x p(composition | N) by a small transformer, then a structure for the composition."""
