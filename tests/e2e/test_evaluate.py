"""`evaluate` as a user starts it, on registered models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distilspark.evaluation.predictions import Predictions
from distilspark.heads import CLASSIFICATION
from helpers.processes import TINY, Place
from helpers.texts import lines_with
from helpers.trained import Trained

pytestmark = pytest.mark.slow
OF_TRAINING_ONLY = ("model=", "scoring.")
SMALL = [each for each in TINY if not each.startswith(OF_TRAINING_ONLY)]


def evaluate(place: Place, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distilspark", "evaluate", *SMALL, f"hydra.run.dir={folder / 'hydra'}"]
    return place.run(*command, *overrides)


def said_about_dev(trained: Trained) -> Predictions:
    return Predictions.from_frame(pd.read_parquet(trained.artifact("evaluation/predictions.parquet")))


def test_evaluate_on_dev_reproduces_the_training_metrics(int8_training: Trained, tmp_path: Path) -> None:
    """The model is in int8 and has a tuned threshold; both come from the package."""
    place, trained = int8_training.place, int8_training.run
    ended = evaluate(place, tmp_path, "model_uri=models:/int8@challenger")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    run = place.runs("distilspark-cola-evaluation")[0]
    assert run.info.status == "FINISHED"
    tags, metrics = run.data.tags, run.data.metrics
    assert tags["data.digest.dev"] == trained.data.tags["data.digest.dev"]
    assert metrics["data/overlap"] == trained.data.metrics["data/duplicates_train_dev"]
    assert (tags["model.uri"], tags["model.run_id"]) == ("models:/int8/1", trained.info.run_id)
    found = Predictions.from_frame(pd.read_parquet(place.artifact(run, "evaluation/predictions.parquet")))
    trained_on = said_about_dev(int8_training)
    pd.testing.assert_frame_equal(
        found.rows.sort_values("id", ignore_index=True), trained_on.rows.sort_values("id", ignore_index=True)
    )
    order, other = np.argsort(found.rows["id"]), np.argsort(trained_on.rows["id"])
    most = trained.data.metrics["parity/dev_max_difference"] + 1e-6
    assert abs(found.outputs[order] - trained_on.outputs[other]).max() <= most
    expected = CLASSIFICATION.compute_metrics(found.labels, found.outputs)
    assert {name: metrics[f"dev/{name}"] for name in CLASSIFICATION.metrics} == pytest.approx(expected)
    assert metrics["dev/mcc_low"] <= metrics["dev/mcc"] <= metrics["dev/mcc_high"]
    assert f"| mcc | {metrics['dev/mcc']:.4f} |" in tags["mlflow.note.content"]
    assert f"- decides above: {trained.data.metrics['train/threshold']:g}" in tags["mlflow.note.content"]
    assert {
        "evaluation/confusion_matrix.png",
        "evaluation/metrics.png",
        "evaluation/slices.json",
        "evaluate.log",
    } <= set(place.artifacts(run))


def test_evaluate_on_a_file_of_sentence_pairs_with_a_logged_model_uri(stsb_training: Trained, tmp_path: Path) -> None:
    place, dev = stsb_training.place, said_about_dev(stsb_training)
    half = dev.where(np.arange(len(dev.labels)) % 2 == 0)
    half.rows[["sentence1", "sentence2"]].assign(label=half.labels).to_csv(tmp_path / "half.csv", index=False)
    data = ["data=files", f"data.path={tmp_path / 'half.csv'}", f"model_uri={stsb_training.model_uri}"]
    ended = evaluate(place, tmp_path, "task=stsb", *data)
    assert ended.returncode == 0, ended.stderr
    assert len(lines_with(ended.stdout, "data", "files", "rows", 50, f"file:{tmp_path / 'half.csv'}")) == 1
    run = place.runs("distilspark-stsb-evaluation")[0]
    errors = half.outputs - half.labels
    assert run.data.metrics["dev/mse"] == pytest.approx((errors**2).mean(), rel=1e-3)
    assert run.data.metrics["baseline/mse"] == pytest.approx(half.labels.var())
    assert run.data.metrics["data/dev"] == 50


def test_missing_model_version_is_named_in_the_error(cola_training: Trained, tmp_path: Path) -> None:
    ended = evaluate(cola_training.place, tmp_path, "model_uri=models:/distilspark-cola/999")
    assert ended.returncode == 2
    assert ended.stderr.startswith("distilspark: model_uri=models:/distilspark-cola/999 ")
    assert ended.stderr.count("\n") == 1, ended.stderr
