"""DiffCSP, ab initio generation (Jiao et al. 2023)."""
