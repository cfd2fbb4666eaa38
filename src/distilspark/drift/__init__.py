"""Distributions of scored rows, and how far they are from those that a model was validated on."""
