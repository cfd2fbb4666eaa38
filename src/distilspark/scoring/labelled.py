"""Metrics of scored rows that have a label."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.sql import DataFrame

from distilspark.config import TaskConfig
from distilspark.drift.summary import Summary


def labelled_metrics(summary: Summary, scored: DataFrame, task: TaskConfig) -> dict[str, float]:
    """Compute every metric of the head on the rows that have a label and a prediction; empty if there are none.

    Args:
        summary: of all rows.
        scored: the rows, with the columns `truth`, `error` and `prediction`. Regression's labels are collected: ranks
            need all of them.
        task: its head and labels.

    """
    if not summary.labelled:
        return {}
    if task.head_kind.has_classes:
        return task.head_kind.compute_metrics(*_confusion(summary, task))
    known = scored.where("error = '' AND truth IS NOT NULL").select("truth", "prediction").toPandas()
    outputs = task.head_kind.outputs_of(task, known["prediction"].to_numpy(dtype=float))
    return task.head_kind.compute_metrics(known["truth"].to_numpy(dtype=float), outputs)


def _confusion(summary: Summary, task: TaskConfig) -> tuple[Any, Any, Any]:
    """Return the label ids, the outputs and the number of rows of each pair of label and prediction."""
    pairs = [key.partition(" ")[::2] for key in summary.confusion]
    predicted = np.array([task.labels.index(answer) for _, answer in pairs])
    truth = np.array([float(label) for label, _ in pairs])
    return truth, task.head_kind.outputs_of(task, predicted), np.array(list(summary.confusion.values()), dtype=float)
