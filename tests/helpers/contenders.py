"""Registered model versions that are worse, equal or better, made in seconds: only their heads differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from distilspark.config import TrainConfig
from distilspark.data.fingerprints import text_hashes
from distilspark.data.loading import Datasets, load_datasets
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.network import build_network, export_arrays
from distilspark.package.build import log_package, write_package
from distilspark.tracking.datasets import log_datasets, log_training_texts
from distilspark.tracking.registry import register
from distilspark.training.prediction import Predictor
from helpers.processes import Place

NAME = "contenders"
WORDS = ("the", "that", "it", "she", "was", "who", "not")


def write_rows(folder: Path, train: int, dev: int, seed: int) -> Path:
    """Write CoLA's files; a sentence is acceptable if it contains "dog", which two thirds do."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for split, rows in (("train", train), ("dev", dev)):
        lines = []
        for number in range(rows):
            label = int(rng.random() < 2 / 3)
            words = [*rng.choice(WORDS, rng.integers(4, 9)), "dog" if label else "the", split, str(number)]
            lines.append(f"s\t{label}\t\t{' '.join(words)}\n")
        (folder / f"{split}.tsv").write_text("".join(lines))
    return folder


@dataclass
class Stable:
    """Registers versions and sets their aliases."""

    place: Place
    config: TrainConfig  # selects the data of the versions
    checkpoint: Path
    datasets: Datasets
    frames: dict[str, pd.DataFrame] = field(init=False)
    network: keras.Model = field(init=False)

    def __post_init__(self) -> None:
        """Load the splits, and build the network whose head is replaced."""
        self.frames = {name: frame.toPandas() for name, frame in self.datasets.splits.items()}
        keras.utils.set_random_seed(0)
        self.network = build_network(self.checkpoint, "classification", 2, pooling="mean")
        layer = self.network.get_layer("pre_classifier")
        layer.kernel.assign(layer.kernel * 50)

    def add(
        self,
        mistakes: float,
        *,
        digests: dict[str, str] | None = None,
        trained_on: Sequence[str] = ("train", "validation"),
    ) -> str:
        """Register a version with a head fitted to dev's labels, a share `mistakes` of them flipped."""
        self._fit_head(mistakes)
        mlflow.set_tracking_uri(self.place.store)
        with mlflow.start_run(experiment_id=self._experiment()), TemporaryDirectory() as scratch:
            known = digests or self.datasets.digests
            log_datasets(self.datasets.sizes, self.frames["dev"], self.datasets.files, known, "cola-files")
            log_training_texts(np.concatenate([text_hashes(self.frames[split]) for split in trained_on]))
            folder = Path(scratch) / "scorer"
            arrays = export_arrays(self.network)
            write_package(folder, arrays, self.checkpoint, self.config.task, self.config.model, ())
            uri = log_package(folder, self.config.task, self.frames["dev"].head(2), 1).model_uri
        return register(uri, NAME, {}, "# Its card\n", beats_baseline=False)[0]

    def alias(self, **versions: str) -> None:
        """Set these aliases and delete all others."""
        for alias in self.aliases():
            self.place.client.delete_registered_model_alias(NAME, alias)
        for alias, version in versions.items():
            self.place.client.set_registered_model_alias(NAME, alias, version)

    def aliases(self) -> dict[str, str]:
        """Return all aliases and their versions."""
        found = self.place.client.get_registered_model(NAME).aliases
        return {alias: str(version) for alias, version in found.items()}

    def forgive(self, version: str) -> None:
        """Clear the verdict of a version that was rolled back, so that it can be promoted again."""
        self.place.client.set_model_version_tag(NAME, version, "gate.verdict", "")

    def version(self, version: str) -> Any:
        """Return the version as MLflow stores it."""
        return self.place.client.get_model_version(NAME, version)

    def _experiment(self) -> str:
        artifacts = (self.place.folder / "mlruns" / NAME).as_uri()
        try:
            return mlflow.create_experiment(NAME, artifacts)
        except MlflowException:
            return str(mlflow.get_experiment_by_name(NAME).experiment_id)

    def _fit_head(self, mistakes: float) -> None:
        dev = self.frames["dev"]
        turned = np.random.default_rng(1).random(len(dev)) < mistakes
        targets = np.where(turned, -1.0, 1.0) * (2 * dev["label"].to_numpy() - 1)
        features = np.column_stack([self._features(dev), np.ones(len(dev))])
        weights = np.linalg.lstsq(features, targets, rcond=None)[0] * 3
        last = self.network.get_layer("classifier")
        last.kernel.assign(np.column_stack([-weights[:-1], weights[:-1]]))
        last.bias.assign([-weights[-1], weights[-1]])

    def _features(self, rows: pd.DataFrame) -> NDArray[np.float32]:
        hidden = keras.Model(self.network.inputs, self.network.get_layer("pre_classifier").output)
        texts = rows["sentence1"].tolist()
        encoded = encode(load_tokenizer(self.checkpoint), texts, None, self.config.model.max_length)
        return Predictor(hidden, 4096, 1).raw_outputs(encoded)


def open_stable(place: Place, spark: SparkSession, config: TrainConfig, checkpoint: Path) -> Stable:
    """Return a `Stable` on the data of `config`."""
    return Stable(place, config, checkpoint, load_datasets(spark, config.task, config.data, place.folder / "bad.csv"))
