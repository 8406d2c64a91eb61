"""What is measured on generated crystals."""
