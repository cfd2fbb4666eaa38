"""The packaged model as a Spark function."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import yaml
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType

from distilspark.config import Head, PredictConfig
from distilspark.scoring.packaged import TaskModel

Udf = Callable[[Column], Column]
ANSWERS: dict[Head, list[StructField]] = {
    "classification": [
        StructField("prediction", LongType()),
        StructField("label", StringType()),
        StructField("score", DoubleType()),
    ],
    "regression": [StructField("prediction", DoubleType())],
}
ERROR = StructField("error", StringType())
MEASURED = [StructField("tokens", LongType()), StructField("unknown_tokens", LongType())]


def make_udf(spark: SparkSession, config: PredictConfig, model: TaskModel) -> Udf:
    """Build the function from a struct of texts to a struct of `ANSWERS`, `ERROR` and `MEASURED`.

    It does as `mlflow.pyfunc.spark_udf` does, but workers import the model's own code alone: MLflow takes them a second
    or two. On a cluster Spark brings them the model's folder, as an archive that is kept beside it.
    """
    result = StructType([*ANSWERS[config.task.head], ERROR, *MEASURED])
    names, load, params = result.names, _loader(spark, model), _params(config)

    def predict(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        loaded = load()
        for texts in batches:
            yield loaded.predict(texts, params)[names]

    return pandas_udf(predict, result)  # type: ignore[call-overload]


def _params(config: PredictConfig) -> dict[str, int]:
    tokens = config.predict.batch_tokens
    return {
        "max_characters": config.predict.max_characters,
        "batch_tokens": 0 if tokens == "auto" else tokens,
    }


def _loader(spark: SparkSession, model: TaskModel) -> Callable[[], Any]:
    """Build the function that loads the model in a worker.

    Nested, so that it is pickled by value: a cluster's workers do not have this module.
    """
    root, archive = model.found.folder, _ship(spark, model)
    flavor = yaml.safe_load((root / "MLmodel").read_text(encoding="utf-8"))["flavors"]["python_function"]
    module, code, data, folder = flavor["loader_module"], flavor["code"], flavor["data"], str(root)

    def load() -> Any:
        import importlib
        import sys

        from pyspark import SparkFiles

        there = SparkFiles.get(archive) if archive else folder
        if f"{there}/{code}" not in sys.path:
            sys.path.insert(0, f"{there}/{code}")
        return importlib.import_module(module)._load_pyfunc(f"{there}/{data}")

    return load


def _ship(spark: SparkSession, model: TaskModel) -> str | None:
    """Bring the model's folder to a cluster's workers; return its name there, None where there is no cluster."""
    if str(spark.sparkContext.master).partition("[")[0] == "local":
        return None
    target = model.found.folder.with_name(f"model-{model.digest[:16]}")
    spark.sparkContext.addArchive(shutil.make_archive(str(target), "zip", model.found.folder))
    return f"{target.name}.zip"
