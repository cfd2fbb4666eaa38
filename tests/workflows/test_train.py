"""Test where a training resumes, and how it chooses the threshold and the package's precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run

from distilspark.config import Precision, TrainConfig
from distilspark.training.checkpoint.store import CheckpointFolder
from distilspark.workflows.train import checkpoint_options, choose_and_log_precision, choose_threshold
from helpers.texts import lines_with

Composer = Callable[..., TrainConfig]
LABELS = np.tile([0.0, 1.0], 50)
SURE: Any = np.where(np.eye(2)[LABELS.astype(int)] == 1, 0.9, 0.1)
WRONG = np.concatenate([SURE[:10, ::-1], SURE[10:]])  # a tenth of the labels flips


def test_training_without_a_folder_has_no_checkpoints(compose_config: Composer) -> None:
    assert checkpoint_options(compose_config("model=tiny"), None, "rows") is None


def test_resumed_training_reports_where_it_goes_on(
    compose_config: Composer, run: Callable[[], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = compose_config("model=tiny"), CheckpointFolder(tmp_path / "kept")
    fresh = checkpoint_options(config, folder, "rows")
    assert fresh and (fresh.run_id, fresh.data_digest) == (run().info.run_id, "rows")
    assert capsys.readouterr().out == "" and "resumed.after" not in run().data.tags
    folder.save({}, {"after": "epoch 2, step 5"})
    assert checkpoint_options(config, CheckpointFolder(folder.path), "rows", "the refit's ")
    assert run().data.tags["resumed.after"] == "the refit's epoch 2, step 5"
    assert lines_with(capsys.readouterr().out, "the refit's epoch 2, step 5", "training.resume=false")


@pytest.mark.parametrize(
    "int8, before_refit, chosen",
    [(SURE, None, "int8"), (WRONG, None, "float32"), (SURE, "int8", "int8"), (SURE, "float32", "float32")],
)
def test_int8_must_keep_the_metric_and_the_choice_before_a_refit(
    compose_config: Composer,
    run: Callable[[], Run],
    capsys: pytest.CaptureFixture[str],
    int8: Any,
    before_refit: Precision | None,
    chosen: str,
) -> None:
    config = compose_config("model=tiny", "scoring.precision=auto")
    assert choose_and_log_precision(config, {"float32": SURE, "int8": int8}, LABELS, before_refit) == chosen
    logged, flips = run().data, 0.1 if int8 is WRONG else 0
    part = "parity_refit" if before_refit else "parity"
    assert logged.tags["model.precision"] == chosen
    assert (logged.metrics[f"{part}/float32"], logged.metrics[f"{part}/flips"]) == (1, flips)
    assert lines_with(capsys.readouterr().out, chosen, "mcc", round(logged.metrics[f"{part}/int8"], 4), flips)


def test_default_threshold_leaves_the_network_alone(compose_config: Composer) -> None:
    nothing: Any = None
    assert choose_threshold(compose_config("model=tiny"), nothing, nothing) == 0.5
