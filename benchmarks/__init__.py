"""Measurements, one file each, run by ``scripts/bench NAME``; what they gave stands in ``results/``."""
