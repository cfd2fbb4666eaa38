"""An evaluation logs metrics, images, tables and the description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.store.tracking.dbmodels.models import SqlDataset
from PIL import Image
from sqlalchemy import event

from distilspark.config import TaskConfig, TrainConfig
from distilspark.evaluation.report import Evaluation
from distilspark.metrics import METRICS
from distilspark.tracking.datasets import log_datasets
from distilspark.tracking.results import (
    beats_baseline,
    describe_run,
    epoch_log,
    log_evaluation,
    log_figures,
    log_tables,
)
from helpers.texts import has_facts, lines_with


@pytest.fixture
def run(store: mlflow.MlflowClient) -> Iterator[mlflow.ActiveRun]:
    """A run for one test."""
    with mlflow.start_run() as active:
        yield active


@pytest.fixture
def cola(compose_config: object) -> TaskConfig:
    config: TrainConfig = compose_config("model=tiny")  # type: ignore[operator]
    return config.task


def evaluation(low: float, baseline: float) -> Evaluation:
    figure = Figure(figsize=(4, 3))
    figure.subplots().plot([1, 2])
    return Evaluation(
        metrics={"accuracy": 0.8, "mcc": 0.45},
        intervals={"accuracy": (0.7, 0.9), "mcc": (low, 0.5)},
        baseline={"accuracy": 0.7, "mcc": baseline},
        slices=pd.DataFrame({"slice": ["length"], "value": ["1-5"], "rows": [3], "mcc": [0.5]}),
        report="a report",
        examples=pd.DataFrame({"id": ["a"], "sentence1": ["It is."]}),
        figures={"confusion": figure},
    )


def stored(run: mlflow.ActiveRun) -> Run:
    return mlflow.MlflowClient().get_run(run.info.run_id)


def artifact(run: mlflow.ActiveRun, path: str) -> Path:
    return Path(mlflow.MlflowClient().download_artifacts(run.info.run_id, path))


def test_evaluation_is_logged_with_its_epoch_as_step(run: mlflow.ActiveRun, cola: TaskConfig) -> None:
    log_evaluation(evaluation(0.4, 0.0), cola, epoch=3)
    metrics = stored(run).data.metrics
    assert metrics == {
        "dev/accuracy": 0.8,
        "dev/mcc": 0.45,
        "dev/mcc_low": 0.4,
        "dev/mcc_high": 0.5,
        "baseline/accuracy": 0.7,
        "baseline/mcc": 0.0,
    }
    for name in metrics:
        assert [point.step for point in mlflow.MlflowClient().get_metric_history(run.info.run_id, name)] == [3]
    assert artifact(run, "evaluation/classification_report.txt").read_text() == "a report"
    slices = json.loads(artifact(run, "evaluation/slices.json").read_text())
    assert (slices["columns"], slices["data"]) == (["slice", "mcc", "rows"], [["length: 1-5", 0.5, 3]])
    assert json.loads(artifact(run, "evaluation/examples.json").read_text())["data"] == [["a", "It is."]]


def test_figures_are_logged_at_200_dpi(run: mlflow.ActiveRun) -> None:
    log_figures(evaluation(0, 0).figures, "evaluation")
    with Image.open(artifact(run, "evaluation/confusion.png")) as image:
        assert image.size[0] >= 4 * 200 * 0.8 and image.size[1] >= 3 * 200 * 0.8  # cropped to the drawing
        assert len(np.unique(np.asarray(image))) > 2


def test_missing_table_values_are_logged_as_null(run: mlflow.ActiveRun) -> None:
    log_tables({"rows": pd.DataFrame({"text": ["a", None], "value": [np.nan, 1.5], "n": [1, 2]})}, "profile")
    assert json.loads(artifact(run, "profile/rows.json").read_text())["data"] == [["a", None, 1], [None, 1.5, 2]]


def test_epochs_are_steps_and_logged_once(run: mlflow.ActiveRun) -> None:
    log_epoch = epoch_log(run.info.run_id)
    log_epoch(1, {"train/loss": 3.0, "val/loss": 2.0})
    log_epoch(2, {"train/loss": 2.0, "val/loss": 1.0})
    went_on = epoch_log(run.info.run_id)
    went_on(2, {"train/loss": 2.0, "val/loss": 1.0})
    went_on(3, {"train/loss": 1.0, "val/loss": 0.5})
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val/loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0), (3, 0.5)]


@pytest.mark.parametrize(
    "low, baseline, beats", [(0.1, 0.0, True), (0.0, 0.0, False), (-0.1, 0.0, False), (0.3, 0.4, False)]
)
def test_model_beats_the_baseline_only_if_its_whole_interval_is_above(low: float, baseline: float, beats: bool) -> None:
    logged = {"dev/mcc_low": low, "dev/mcc_high": 0.9, "baseline/mcc": baseline}
    assert beats_baseline(logged, METRICS["mcc"]) is beats


@pytest.mark.parametrize("high, beats", [(0.9, True), (1.0, False), (1.2, False)])
def test_error_beats_the_baseline_only_if_its_whole_interval_is_below(high: float, beats: bool) -> None:
    assert beats_baseline({"dev/mse_low": 0.5, "dev/mse_high": high, "baseline/mse": 1.0}, METRICS["mse"]) is beats


def test_description_has_the_headline_metrics_and_settings(cola: TaskConfig) -> None:
    text = describe_run({"checkpoint": "tiny", "epoch kept": "2"}, evaluation(0.4, 0.0), cola, 0.9)
    assert text.startswith(cola.title) and has_facts(text.splitlines()[0], "mcc", 0.45, 90, 0.4, 0.5)
    assert "| accuracy | 0.8000 | 0.7000 | 0.9000 | 0.7000 |" in text
    assert len(lines_with(text, "checkpoint", "tiny")) == len(lines_with(text, "epoch kept", 2)) == 1


def test_datasets_are_logged_with_the_given_digests(run: mlflow.ActiveRun) -> None:
    rows = {"train": 7, "validation": 2, "dev": 1}
    example = pd.DataFrame({"id": ["1"], "sentence1": ["It is."], "sentence2": [None], "label": [1.0]})
    digests = {split: f"{number:036x}" for number, split in enumerate(rows)}
    log_datasets(rows, example, {"train": "file:///t.tsv", "dev": "file:///d.tsv"}, digests, "cola-files")
    logged = {each.dataset.name: each for each in stored(run).inputs.dataset_inputs}
    assert {name: each.dataset.digest for name, each in logged.items()} == {
        f"cola-files-{split}": digest for split, digest in digests.items()
    }
    contexts = {name: each.tags[0].value for name, each in logged.items()}
    assert contexts == {
        "cola-files-train": "training",
        "cola-files-validation": "validation",
        "cola-files-dev": "evaluation",
    }
    sources = {name: json.loads(each.dataset.source)["uri"] for name, each in logged.items()}
    assert sources["cola-files-validation"] == sources["cola-files-train"] == "file:///t.tsv"
    assert sources["cola-files-dev"] == "file:///d.tsv"
    profiles = {name: json.loads(each.dataset.profile) for name, each in logged.items()}
    assert profiles["cola-files-train"] == {"num_rows": 7, "num_elements": 28}
    columns = json.loads(logged["cola-files-train"].dataset.schema)["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [
        ("id", "string"),
        ("sentence1", "string"),
        ("sentence2", "any"),
        ("label", "double"),
    ]
    assert stored(run).data.tags["data.digest.dev"] == digests["dev"]


def test_two_runs_can_log_the_same_dataset_concurrently(run: mlflow.ActiveRun) -> None:
    """The second run inserts the dataset between MLflow's lookup and insertion for the first."""
    dev: Any = ({"dev": 1}, pd.DataFrame({"label": [1.0]}), {"dev": "file:///d.tsv"}, {"dev": "0" * 36}, "both")

    def log_in_another() -> str:
        with mlflow.start_run() as another:
            log_datasets(*dev)
            return str(another.info.run_id)

    def come_between(*inserted: object) -> None:
        with ThreadPoolExecutor(1) as threads:
            others.append(threads.submit(log_in_another).result())

    others: list[str] = []
    event.listen(SqlDataset, "before_insert", come_between, once=True)
    log_datasets(*dev)
    for run_id in (run.info.run_id, *others):
        inputs = mlflow.get_run(run_id).inputs
        assert inputs is not None and [each.dataset.digest for each in inputs.dataset_inputs] == ["0" * 36]
