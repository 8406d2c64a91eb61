"""How far energies above the hull by a potential can be trusted: held against published ones, crystal by crystal."""
