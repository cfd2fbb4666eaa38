"""The rows that models are evaluated on: the task's dev split, or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
from pyspark.sql import SparkSession

from distilspark.config import DataConfig, TaskConfig
from distilspark.console import print_line
from distilspark.data.loading import load_labelled
from distilspark.figures import count_rows
from distilspark.tracking.datasets import log_datasets
from distilspark.workflows.reporting import logged_bad_rows


@dataclass(frozen=True)
class EvaluationSet:
    """Labelled rows with their digest."""

    rows: pd.DataFrame  # id, sentence1, sentence2, label, source, split
    digest: str
    source: str  # hub | files | sample


def read_evaluation_set(spark: SparkSession, task: TaskConfig, data: DataConfig, folder: Path) -> EvaluationSet:
    """Read and check the rows in Spark, and log them as the run's dataset; write bad rows to `folder`."""
    bad_rows = folder / "bad_rows.csv"
    with logged_bad_rows(bad_rows):
        found = load_labelled(spark, task, data, bad_rows)
        rows = found.rows.toPandas().sort_values("id", ignore_index=True)  # the bootstrap draws by position
    print_line(f"data: {found.source} ({count_rows(len(rows))} of {found.file})")
    log_datasets({"dev": len(rows)}, rows, {"dev": found.file}, {"dev": found.digest}, f"{task.name}-{found.source}")
    mlflow.set_tag("data.source", found.source)
    mlflow.log_metrics({"data/dev": float(len(rows)), "data/rows_bad": float(found.bad_rows)})
    return EvaluationSet(rows, found.digest, found.source)
