"""CDVAE (Xie et al. 2022): a crystal variational autoencoder that decodes by annealed Langevin dynamics."""
