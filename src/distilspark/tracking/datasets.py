"""Datasets of a run, known by the digests of their rows."""

from __future__ import annotations

from collections.abc import Mapping

import mlflow
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas

CONTEXTS = {"train": "training", "validation": "validation", "dev": "evaluation"}


def log_datasets(
    frames: Mapping[str, pd.DataFrame], files: Mapping[str, str], digests: Mapping[str, str], name: str
) -> None:
    """Log each split as a dataset `NAME-SPLIT` with its source and the digest of its rows (36 characters at most)."""
    for split, frame in frames.items():
        source = files["dev" if split == "dev" else "train"]
        dataset = from_pandas(frame, source=source, name=f"{name}-{split}", targets="label", digest=digests[split])
        mlflow.log_input(dataset, context=CONTEXTS[split])
        mlflow.set_tag(f"data.digest.{split}", digests[split])
