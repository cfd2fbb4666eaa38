"""Reports that several commands print and log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from distilspark.config import TaskConfig
from distilspark.console import show_table
from distilspark.evaluation.report import Evaluation


@contextmanager
def logged_bad_rows(file: Path) -> Iterator[None]:
    """Log the file of bad rows if the block wrote one, even if the block raises."""
    try:
        yield
    finally:
        if file.is_file():
            mlflow.log_artifact(str(file), "data")


def show_evaluation(evaluation: Evaluation, task: TaskConfig, confidence: float) -> None:
    """Print a table of the metrics with their intervals and the baseline."""
    rows = [
        (
            name,
            f"{value:.4f}",
            "{:.4f} to {:.4f}".format(*evaluation.intervals[name]),
            f"{evaluation.baseline[name]:.4f}",
        )
        for name, value in evaluation.metrics.items()
    ]
    show_table(f"{task.title}: dev", ("metric", "value", f"{confidence:.0%} interval", "baseline"), rows)
