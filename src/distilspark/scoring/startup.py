"""Spark's start, which takes seconds, while this process does other things."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pandas as pd
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas.functions import pandas_udf

from distilspark.config import SparkConfig
from distilspark.spark import session

IN_WORKERS = ("mlflow.pyfunc", "onnxruntime", "tokenizers")  # slow imports of a packaged model
FOR_PLOTS = (
    "distilspark.scoring.profile_report",
    "distilspark.scoring.drift_report",
    "matplotlib.backends.backend_agg",
)


class BackgroundSession:
    """A Spark session that starts, warms up and stops in threads."""

    def __init__(self, pool: ThreadPoolExecutor, config: SparkConfig, name: str) -> None:
        self._pool = pool
        self._started: Future[SparkSession] = pool.submit(session, config, name)
        self._warm: Future[None] = pool.submit(self._warm_up)
        self._stopped = False

    def wait(self) -> SparkSession:
        """Return the session once it has started; raise why it has not."""
        return self._started.result()

    def stop(self) -> None:
        """Let the session stop: the memory of its JVM is free for what follows."""
        self._warm.cancel()
        if not self._stopped and self._started.exception() is None:
            self._stopped = True
            self._pool.submit(self.wait().stop)

    def _warm_up(self) -> None:
        """Import what is needed later, while this process waits for Spark's first jobs."""
        spark = self.wait()
        with suppress(Exception):  # the job does without it
            if str(spark.sparkContext.master).startswith("local["):  # of a cluster's workers, this would reach one
                spark.range(0, 1, 1, 1).select(_importer()("id")).collect()
        for module in FOR_PLOTS:
            importlib.import_module(module)


def _importer() -> Callable[[str], Column]:
    """Build a Spark function that imports what a model needs; nested, so that workers import nothing of ours for it."""
    modules = IN_WORKERS

    def import_modules(ids: pd.Series) -> pd.Series:  # without subscripts: PySpark evaluates them
        for module in modules:
            importlib.import_module(module)
        return ids

    return pandas_udf(import_modules, "long")  # type: ignore[call-overload]


@contextmanager
def starting_session(config: SparkConfig, name: str) -> Iterator[BackgroundSession]:
    """Start a session in the background; it is stopped at the end, also where nobody waited for it."""
    with ThreadPoolExecutor(2, "spark") as pool:
        background = BackgroundSession(pool, config, name)
        try:
            yield background
        finally:
            background.stop()
