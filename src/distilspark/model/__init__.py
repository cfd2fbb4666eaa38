"""Checkpoints, the DistilBERT graph with its heads, and the losses."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
