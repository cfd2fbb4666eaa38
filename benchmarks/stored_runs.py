"""Finished runs of a made-up sweep in a store, as `compare` reads them, without training."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from hydra import compose, initialize_config_dir
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from distilspark.config import TaskConfig, TrainConfig, from_hydra
from distilspark.evaluation.predictions import Predictions
from distilspark.paths import CONF

ROWS = 1043  # of CoLA's dev split
EPOCHS = 5


def write_runs(store: str, artifacts: Path, count: int) -> list[str]:
    """Log runs that differ in one setting, each with predictions of the same rows; return their ids."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        task = from_hydra(TrainConfig, compose("train", ["task=cola", "model=tiny"])).task
    client = MlflowClient(store)
    experiment = client.create_experiment("growth", artifacts.as_uri())
    return [_write_run(client, experiment, task, number) for number in range(count)]


def _write_run(client: MlflowClient, experiment: str, task: TaskConfig, number: int) -> str:
    tags = {"task": task.name, "data.digest.dev": "made up"}
    run_id = str(client.create_run(experiment, run_name=f"made up {number}", tags=tags).info.run_id)
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, epoch / EPOCHS, 0, epoch)
            for epoch in range(1, EPOCHS + 1)
            for name in (f"val/{task.metric}", "val/loss")
        ],
        params=[Param("training.seed", "1"), Param("training.learning_rate", f"{number + 1}e-6")],
        tags=[RunTag("made", "true")],
    )
    client.log_text(run_id, yaml.safe_dump({"task": asdict(task)}), "config/config.yaml")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "predictions.parquet"
        _predictions(number).to_frame().to_parquet(file, index=False)
        client.log_artifact(run_id, str(file), "evaluation")
    client.set_terminated(run_id)
    return run_id


def _predictions(seed: int) -> Predictions:
    """Return predictions with an accuracy of about .8; the labels are the same for all seeds."""
    labels = np.random.default_rng(0).integers(0, 2, ROWS)
    rng = np.random.default_rng([1, seed])
    predicted = np.where(rng.random(ROWS) < 0.8, labels, 1 - labels)
    probability = rng.uniform(0.55, 0.95, ROWS)[:, None]
    outputs = np.where(np.eye(2)[predicted] == 1, probability, 1 - probability)
    texts = [f"Sentence number {row}." for row in range(ROWS)]
    rows = pd.DataFrame({"id": texts, "sentence1": texts, "sentence2": None, "source": None, "tokens": 6})
    return Predictions(rows, labels.astype(float), outputs.astype(np.float32))
