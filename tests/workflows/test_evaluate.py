"""`evaluate` reports how many of the rows its model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

from distilspark.data.fingerprints import text_hashes
from distilspark.tracking.datasets import log_training_texts
from distilspark.workflows.evaluate import prepare, report_overlap
from distilspark.workflows.labelled import EvaluationSet
from distilspark.workflows.runner import Context
from helpers.made_runs import made_rows
from helpers.texts import numbers_in

DEV = EvaluationSet(made_rows(8), "a digest", "files")


def trained_in(run_id: str | None) -> Any:
    """Return a model of the training with this run id."""
    return SimpleNamespace(found=SimpleNamespace(run_id=run_id))


@pytest.mark.parametrize("known", [0, 3])
def test_rows_that_the_model_was_trained_on_are_counted(
    run: Callable[[], Run], capsys: pytest.CaptureFixture[str], known: int
) -> None:
    learnt = np.concatenate([text_hashes(DEV.rows.head(known)), np.array([1, 2], dtype=np.int64)])
    with mlflow.start_run(nested=True) as training:
        log_training_texts(np.sort(learnt))
    report_overlap(trained_in(training.info.run_id), DEV)
    assert run().data.metrics["data/overlap"] == known
    assert numbers_in(capsys.readouterr().out) == ([known] if known else [])


@pytest.mark.parametrize("run_id", [None, "0" * 32])
def test_unknown_overlap_is_printed_and_not_logged_as_zero(
    run: Callable[[], Run], capsys: pytest.CaptureFixture[str], run_id: str | None
) -> None:
    report_overlap(trained_in(run_id), DEV)
    assert "data/overlap" not in run().data.metrics
    assert "not known" in capsys.readouterr().out


def test_run_is_named_after_the_task_and_the_model(compose_command: Any) -> None:
    config, session = compose_command("evaluate", "model_uri=models:/mine/3"), SimpleNamespace()
    with prepare(config, Context(Path("evaluate.log"), session)) as job:  # type: ignore[arg-type]
        assert (job.experiment, job.run_name) == ("distilspark-cola-evaluation", "cola mine/3")
        assert job.tags == {"task": "cola"} and "models:/mine/3" in job.title
