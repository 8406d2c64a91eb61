"""The models CrysLDM is compared with, and controls."""
