"""Training of models: `bench train` and all that belongs to it alone."""
