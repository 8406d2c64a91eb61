"""The paper's claims held against stored runs: what docs/reproduction.md shows."""
