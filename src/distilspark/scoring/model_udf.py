"""The packaged model as a Spark function."""

from __future__ import annotations

from collections.abc import Callable

import mlflow
from pyspark.sql import Column, SparkSession

from distilspark.config import PredictConfig
from distilspark.package.load import TaskModel

Udf = Callable[[Column], Column]
MEASURED = ("tokens", "unknown_tokens")  # what the model answers beside its predictions


def make_udf(spark: SparkSession, config: PredictConfig, model: TaskModel) -> Udf:
    """Load the model as a function from a struct of texts to a struct of answers; Spark takes it to a cluster."""
    tokens = config.predict.batch_tokens
    params = {
        "max_characters": config.predict.max_characters,
        "batch_tokens": 0 if tokens == "auto" else tokens,
    }
    return mlflow.pyfunc.spark_udf(spark, str(model.found.folder), env_manager="local", params=params)
