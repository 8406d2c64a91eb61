"""Drafts of crystals: a small transformer writes the structure of a composition number by number.

Diffusion corrects what it writes (`models.baselines.diffcsp.structure_prediction`).
"""
