"""The workflow of each command; only this package combines the others."""
