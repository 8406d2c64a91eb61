"""Generative models of crystals and the controls that run beside them."""
