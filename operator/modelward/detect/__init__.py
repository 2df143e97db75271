"""Detectors: what ordinary data looks like, fitted once, and how far a row is from it."""
