"""The quickstart notebook runs, with untrained models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

import notebook
from distilspark.config import TrainConfig
from helpers.made_runs import MadeStore, made_classifier


@pytest.fixture
def store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved: Callable[[str], Path],
    compose_config: Callable[..., TrainConfig],
) -> str:
    """A store with two trainings of CoLA; the champion is the first one's, whose run id is returned."""
    made, task = MadeStore(tmp_path), compose_config("task=cola", "model=tiny").task
    first, _ = (made.training(task, made_classifier(300, skill, 1), name=f"skill {skill}") for skill in (0.9, 0.6))
    made.client.create_registered_model("distilspark-cola")
    version = made.client.create_model_version("distilspark-cola", saved("cola").as_uri(), first)
    made.client.set_registered_model_alias("distilspark-cola", "champion", version.version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    return first


@pytest.mark.slow
def test_every_cell_of_the_quickstart_runs(store: str) -> None:
    before = mlflow.get_tracking_uri()
    try:
        values = notebook.execute(json.loads(notebook.QUICKSTART.read_text(encoding="utf-8")))
    finally:
        mlflow.set_tracking_uri(before)
    _, predicted, labels, worst, slices, scores, sentence, table = values
    assert predicted["error"].tolist() == ["", "", "sentence1 is missing"]
    assert labels == ["skill 0.9", "skill 0.6"]
    assert len(worst) == 5 and (worst["label"] != worst["prediction"]).all()
    assert {"slice", "mcc"} <= set(slices.columns)
    assert (scores["low"] < scores["dev"]).all() and (scores["dev"] < scores["high"]).all()
    assert sentence.startswith("skill 0.6: MCC") and "lower than skill 0.9" in sentence
    assert len(table) == 2


def test_quickstart_outputs_contain_no_local_paths() -> None:
    cells = json.loads(notebook.QUICKSTART.read_text(encoding="utf-8"))["cells"]
    outputs = json.dumps([cell["outputs"] for cell in cells if cell["cell_type"] == "code"])
    assert not [part for part in ("/tmp", "/home", "/root", "/work", "file:") if part in outputs]
