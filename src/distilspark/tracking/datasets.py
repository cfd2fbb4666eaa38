"""Datasets of a run, known by the digests of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException

from distilspark.data.fingerprints import Hashes, text_hashes
from distilspark.errors import UserError

TRAINING_TEXTS = "training_texts.parquet"
CONTEXTS = {"train": "training", "validation": "validation", "dev": "evaluation"}


def log_datasets(
    frames: Mapping[str, pd.DataFrame], files: Mapping[str, str], digests: Mapping[str, str], name: str
) -> None:
    """Log each split as a dataset `NAME-SPLIT` with its source and the digest of its rows (36 characters at most)."""
    for split, frame in frames.items():
        source = files["dev" if split == "dev" else "train"]
        dataset = from_pandas(frame, source=source, name=f"{name}-{split}", targets="label", digest=digests[split])
        try:
            mlflow.log_input(dataset, context=CONTEXTS[split])
        except MlflowException:  # another run has added the same dataset since MLflow looked for it: now it finds it
            mlflow.log_input(dataset, context=CONTEXTS[split])
        mlflow.set_tag(f"data.digest.{split}", digests[split])


def log_training_texts(frames: Iterable[pd.DataFrame]) -> None:
    """Hashes of all texts that a model learns from or is chosen on, so that nobody evaluates it on them unawares."""
    hashes = np.unique(np.concatenate([text_hashes(frame) for frame in frames]))
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / TRAINING_TEXTS
        pd.DataFrame({"hash": hashes}).to_parquet(file, index=False)
        mlflow.log_artifact(str(file), "data")


def training_texts(run_id: str) -> Hashes:
    """What `log_training_texts` logged in a run.

    Raises:
        UserError: the run has none, or cannot be reached.

    """
    path = f"data/{TRAINING_TEXTS}"
    try:
        with TemporaryDirectory() as scratch:
            file = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch)
            return pd.read_parquet(file)["hash"].to_numpy()
    except (MlflowException, OSError) as error:
        raise UserError(
            f"run {run_id} has no {path}, which tells what its model was trained on. Train it anew"
        ) from error
