"""Checkpoints of interrupted trainings: files and training state."""
