"""CrysLDM: latent diffusion for crystals (Khastagir, Das et al.)."""
