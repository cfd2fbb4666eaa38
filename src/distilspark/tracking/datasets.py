"""Datasets of a run, identified by digests of their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from distilspark.data.fingerprints import Hashes
from distilspark.errors import UserError

TRAINING_TEXTS = "training_texts.parquet"
CONTEXTS = {"train": "training", "validation": "validation", "dev": "evaluation"}


class SplitDataset(MetaDataset):
    """A split, described by its source, columns and number of rows."""

    def __init__(self, source: str, name: str, digest: str, example: pd.DataFrame, rows: int) -> None:
        """`example`: some rows with the split's columns."""
        super().__init__(resolve_dataset_source(source), name, digest, infer_signature(example).inputs)
        self.rows, self.columns = rows, len(example.columns)

    @property
    def profile(self) -> dict[str, int]:
        """Return the split's size."""
        return {"num_rows": self.rows, "num_elements": self.rows * self.columns}

    def to_dict(self) -> dict[str, str]:
        """Return the fields that the store keeps."""
        return {**super().to_dict(), "profile": json.dumps(self.profile)}


def log_datasets(
    rows: Mapping[str, int], example: pd.DataFrame, files: Mapping[str, str], digests: Mapping[str, str], name: str
) -> None:
    """Log each split as a dataset `NAME-SPLIT` with its source and the digest of its rows (36 characters at most).

    `rows`: the number in each; `example`: some rows with their columns.
    """
    for split, count in rows.items():
        source = files["dev" if split == "dev" else "train"]
        dataset = SplitDataset(source, f"{name}-{split}", digests[split], example, count)
        try:
            mlflow.log_input(dataset, context=CONTEXTS[split])
        except MlflowException:  # another run has just added the same dataset; the second call finds it
            mlflow.log_input(dataset, context=CONTEXTS[split])
        mlflow.set_tag(f"data.digest.{split}", digests[split])


def log_training_texts(hashes: Hashes) -> None:
    """Log hashes of all texts used for training and selection, so that evaluations can report overlap."""
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / TRAINING_TEXTS
        pd.DataFrame({"hash": hashes}).to_parquet(file, index=False)
        mlflow.log_artifact(str(file), "data")


def training_texts(run_id: str) -> Hashes:
    """Read the hashes that `log_training_texts` logged to a run.

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
            f"run {run_id} has no {path}, the list of the texts that its model was trained on. Train it again"
        ) from error
