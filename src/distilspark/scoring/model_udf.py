"""The packaged model as a Spark function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import mlflow
from pyspark import cloudpickle
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas.functions import pandas_udf

from distilspark import worker_watch
from distilspark.config import PredictConfig
from distilspark.errors import UserError
from distilspark.package.load import TaskModel
from distilspark.spark import is_local
from distilspark.tracking import checksums
from distilspark.tracking.checksums import ChangedPackageError, checked_loading
from distilspark.worker_watch import kill_if_stopped

Udf = Callable[[Column], Column]
MEASURED = ("tokens", "unknown_tokens")  # outputs of the model besides its predictions
for each in (checksums, worker_watch):
    cloudpickle.register_pickle_by_value(each)  # a cluster's workers do not have this project


def make_udf(spark: SparkSession, config: PredictConfig, model: TaskModel) -> Udf:
    """Load the model as a Spark function from a struct of texts to a struct of answers.

    Each worker process checks the package's files before it runs the package's code. On a cluster it also starts a
    watch over itself (`spark.worker_timeout`); on this machine the driver's session has one.
    """
    tokens = config.predict.batch_tokens
    params = {
        "max_characters": config.predict.max_characters,
        "batch_tokens": 0 if tokens == "auto" else tokens,
    }
    udf = mlflow.pyfunc.spark_udf(spark, str(model.found.folder), env_manager="local", params=params)
    timeout = None if is_local(config.spark.master) else config.spark.worker_timeout
    checked = _checked(udf.func, model.found.checksums, timeout)
    return pandas_udf(checked, udf.returnType)  # type: ignore[call-overload]


def _checked(
    score: Callable[[Any], Iterator[Any]], expected: str, timeout: int | None
) -> Callable[[Any], Iterator[Any]]:
    @wraps(score)
    def check_and_score(batches: Any) -> Iterator[Any]:
        if timeout:
            kill_if_stopped(timeout)
        with checked_loading(expected) as was_checked:
            for answers in score(batches):
                was_checked()
                yield answers

    return check_and_score


def refuse_changed(cause: str, model: TaskModel) -> None:
    """Raise `UserError` if a job failed because a worker's copy of the package was changed."""
    _, is_changed, changes = cause.partition(f"{ChangedPackageError.__name__}: ")
    if is_changed:
        raise UserError(
            f"{model.found.uri} arrived changed at a Spark worker: {changes}. None of its code was run there. "
            "Find out who writes to the temporary folders of the driver and the workers, and start again"
        )
