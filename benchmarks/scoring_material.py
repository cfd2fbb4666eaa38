"""Shared input of all ways of scoring: the same sentences, and one network in the format that each of them reads.

The network is MiniLM with an untrained head, which is as slow as a trained one. Its pooling is `cls`, so that a stock
`DistilBertForSequenceClassification` can hold it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import keras
import mlflow
import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from safetensors.numpy import save_file

from distilspark.config import Precision, TrainConfig, from_hydra
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.heads import CLASSIFICATION
from distilspark.model.checkpoints import fetch
from distilspark.model.network import build_network, export_arrays
from distilspark.package.build import log_package, write_package
from distilspark.paths import CONF
from distilspark.training.prediction import Predictor
from glue import read_cola

SEED = 1
REFERENCE_ROWS = 4000


@dataclass(frozen=True)
class Material:
    """The paths of the material."""

    folder: Path
    model_uris: dict[str, str]  # of the packages, by precision

    @property
    def store(self) -> str:
        """The tracking URI of the store with the packages."""
        return _store(self.folder)

    @property
    def network(self) -> Path:
        """The folder of `network.keras` and of the same weights as a Hugging Face folder."""
        return self.folder / "network"

    def package(self, precision: str) -> Path:
        """Return the folder that `distilspark.package.pyfunc.Scorer` loads."""
        return self.folder / precision

    @property
    def reference(self) -> pd.DataFrame:
        """The Keras network's answers for the first sentences: `id`, `prediction`, `score`."""
        return pd.read_parquet(self.folder / "reference.parquet")

    def sentences(self, rows: int) -> Path:
        """Return a parquet file of `id` and `sentence`, drawn with replacement; fewer rows are a prefix of more."""
        file = self.folder / f"sentences_{rows}.parquet"
        if not file.exists():
            _draw(rows).to_parquet(file, index=False)
        return file


def _store(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def _draw(rows: int) -> pd.DataFrame:
    sentences = np.concatenate([read_cola(split)["sentence"].to_numpy() for split in ("train", "dev")])
    drawn = np.random.default_rng(SEED).integers(len(sentences), size=rows)
    return pd.DataFrame({"id": np.arange(rows), "sentence": sentences[drawn]})


def write_material(folder: Path, model: str, *overrides: str) -> Material:
    """Write everything except the sentences; `model` is the name of a file in `conf/model/`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", ["task=cola", f"model={model}", "model.pooling=cls", *overrides])
    config = from_hydra(TrainConfig, composed)
    checkpoint = fetch(config.model)
    sentences = _draw(REFERENCE_ROWS)
    keras.utils.set_random_seed(SEED)
    network = build_network(
        checkpoint, config.task.head, config.task.head_kind.units(config.task), pooling=config.model.pooling
    )
    outputs = balance_head(network, checkpoint, sentences["sentence"].tolist(), config.model.max_length)
    reference = {"id": sentences["id"], "prediction": outputs.argmax(axis=1), "score": outputs.max(axis=1)}
    pd.DataFrame(reference).to_parquet(folder / "reference.parquet", index=False)
    _write_network(folder / "network", network, checkpoint, config.task.labels)
    return Material(folder, _log_packages(folder, network, checkpoint, config, sentences))


def balance_head(network: keras.Model, checkpoint: Path, sentences: list[str], max_length: int) -> np.ndarray:
    """Scale and shift the head so that it predicts each label for half of the sentences; return probabilities."""
    for name in ("pre_classifier", "classifier"):
        layer = network.get_layer(name)
        layer.kernel.assign(layer.kernel * 20)
    encoded = encode(load_tokenizer(checkpoint), sentences, None, max_length)
    predictor = Predictor(network, batch_tokens=4096, bucket_width=8)
    logits = predictor.raw_outputs(encoded)
    shift = np.median(logits[:, 0] - logits[:, 1])
    network.get_layer("classifier").bias.assign([-shift, 0])
    return CLASSIFICATION.activate(logits - np.array([shift, 0]))


def _write_network(folder: Path, network: keras.Model, checkpoint: Path, labels: list[str]) -> None:
    folder.mkdir()
    network.save(folder / "network.keras")
    for file in checkpoint.glob("*token*"):
        shutil.copy(file, folder)
    shutil.copy(checkpoint / "vocab.txt", folder)
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config |= {
        "architectures": ["DistilBertForSequenceClassification"],
        "id2label": dict(enumerate(labels)),
        "label2id": {label: place for place, label in enumerate(labels)},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(export_arrays(network), folder / "model.safetensors", metadata={"format": "pt"})


def _log_packages(
    folder: Path, network: keras.Model, checkpoint: Path, config: TrainConfig, sentences: pd.DataFrame
) -> dict[str, str]:
    mlflow.set_tracking_uri(_store(folder))
    mlflow.create_experiment("packages", (folder / "artifacts").as_uri())
    mlflow.set_experiment("packages")
    arrays, example = export_arrays(network), pd.DataFrame({"sentence1": sentences["sentence"][:2]})
    uris: dict[str, str] = {}
    for precision in get_args(Precision):
        write_package(folder / precision, arrays, checkpoint, config.task, config.model, (), precision)
        with mlflow.start_run():
            uris[precision] = log_package(folder / precision, config.task, example, step=0).model_uri
    return uris
