"""Made-up trainings: predictions of a chosen quality, and MLflow runs that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from distilspark.config import TaskConfig
from distilspark.evaluation.predictions import Predictions


def made_rows(n: int) -> pd.DataFrame:
    """Return single-sentence rows; the same n gives the same rows."""
    texts = [f"Sentence number {place}." for place in range(n)]
    return pd.DataFrame(
        {
            "id": [f"row-{place}" for place in range(n)],
            "sentence1": texts,
            "sentence2": None,
            "source": None,
            "tokens": 6,
        }
    )


def made_classifier(n: int, skill: float, seed: int) -> Predictions:
    """Return predictions with an accuracy of about `skill`; rows are hard or easy for all models alike."""
    rows = np.random.default_rng(n)
    labels = rows.integers(0, 2, n)
    chance = np.clip(skill + rows.uniform(-0.25, 0.25, n), 0.02, 0.98)
    random = np.random.default_rng([seed, int(skill * 1000)])
    said = np.where(random.random(n) < chance, labels, 1 - labels)
    sure = random.uniform(0.55, 0.95, n)
    outputs = np.where(np.eye(2)[said] == 1, sure[:, None], 1 - sure[:, None])
    return Predictions(made_rows(n), labels.astype(float), outputs.astype(np.float32))


def made_regressor(n: int, noise: float, seed: int) -> Predictions:
    """Return labels from 0 to 5 and outputs with normal noise of this standard deviation."""
    labels = np.random.default_rng(n).uniform(0, 5, n).round(1)
    outputs = labels + np.random.default_rng([seed, int(noise * 1000)]).normal(0, noise, n)
    return Predictions(made_rows(n).assign(sentence2="Another."), labels, outputs.astype(np.float32))


@dataclass(frozen=True)
class MadeStore:
    """An MLflow store in a folder."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def experiment(self, name: str) -> str:
        """Return the experiment's id; create it if it does not exist."""
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name, self.folder.as_uri()))

    def run(self, task: TaskConfig, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Create a run in the task's experiment, leave it open, and return its id."""
        made = self.client.create_run(self.experiment(f"distilspark-{task.name}"), run_name=name, tags=dict(tags))
        run_id = str(made.info.run_id)
        self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        return run_id

    def training(
        self,
        task: TaskConfig,
        predictions: Predictions | None,
        *,
        name: str = "a training",
        seed: int = 1,
        curve: Sequence[float] = (0.1, 0.2),
        digest: str = "a digest",
        status: str = "FINISHED",
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> str:
        """Log a run as `train` does: task, digest, seed, validation metrics, predictions; return its id."""
        known = {"task": task.name, "data.digest.dev": digest} | dict(tags or {})
        run_id = self.run(task, name, known, {"training.seed": seed} | dict(params or {}))
        points = [
            Metric(key, value, 0, epoch)
            for epoch, score in enumerate(curve, start=1)
            for key, value in ((f"val/{task.metric}", score), ("val/loss", 1 - score))
        ]
        self.client.log_batch(run_id, metrics=points, tags=[RunTag("made", "true")])
        self.client.log_text(run_id, yaml.safe_dump({"task": asdict(task)}), "config/config.yaml")
        if predictions is not None:
            with TemporaryDirectory() as scratch:
                file = Path(scratch) / "predictions.parquet"
                predictions.to_frame().to_parquet(file, index=False)
                self.client.log_artifact(run_id, str(file), "evaluation")
        self.client.set_terminated(run_id, status)
        return run_id

    def sweep(
        self, task: TaskConfig, key: str, variants: Mapping[str, Mapping[int, Predictions | None]], sweep_id: str
    ) -> str:
        """Log a sweep over a key and seeds; a job without predictions has failed. Return the open parent's id."""
        tags = {"sweep.id": sweep_id, "sweep.name": key.rpartition(".")[2]}
        parent = self.run(task, f"{task.name} {key}", tags | {"sweep.parent": "true", "sweep.varied": f'["{key}"]'}, {})
        for value, seeds in variants.items():
            for seed, predictions in seeds.items():
                variant = f"{key}={value}"
                own = {"sweep.variant": variant, "sweep.job": f"{variant} training.seed={seed}"}
                self.training(
                    task,
                    predictions,
                    name=f"{task.name} {value} seed {seed}",
                    seed=seed,
                    status="FAILED" if predictions is None else "FINISHED",
                    tags=tags | own | {"mlflow.parentRunId": parent},
                    params={key: value},
                )
        return parent
