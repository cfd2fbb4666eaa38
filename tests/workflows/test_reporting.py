"""Reports that several commands print and log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from distilspark.config import TrainConfig
from distilspark.errors import UserError
from distilspark.evaluation.report import Evaluation
from distilspark.workflows.reporting import logged_bad_rows, show_evaluation
from helpers.texts import lines_with


def artifacts(run: Run) -> list[str]:
    return [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "data")]


def test_bad_rows_are_logged_even_if_they_end_the_run(run: Callable[[], Run], tmp_path: Path) -> None:
    file = tmp_path / "bad_rows.csv"
    with logged_bad_rows(file):
        pass
    assert artifacts(run()) == []
    with pytest.raises(UserError, match="too many"), logged_bad_rows(file):
        file.write_text("row")
        raise UserError("too many")
    assert artifacts(run()) == ["data/bad_rows.csv"]


def test_printed_evaluation_has_each_metric_with_interval_and_baseline(
    compose_config: Callable[..., TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = Evaluation(
        metrics={"mcc": 0.31, "accuracy": 0.8},
        intervals={"mcc": (0.25, 0.37), "accuracy": (0.75, 0.85)},
        baseline={"mcc": 0.0, "accuracy": 0.7},
        slices=pd.DataFrame(),
        report=None,
        examples=pd.DataFrame(),
        figures={},
    )
    show_evaluation(evaluation, compose_config("model=tiny").task, 0.9)
    printed = capsys.readouterr().out
    assert len(lines_with(printed, "mcc", 0.31, 0.25, 0.37, 0)) == 1
    assert len(lines_with(printed, "accuracy", 0.8, 0.75, 0.85, 0.7)) == 1
    assert "90%" in printed
