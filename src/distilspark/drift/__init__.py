"""Distributions of scored rows, and their drift from the rows that a model was validated on."""
