"""Spark's start, which takes seconds, while this process does other things."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pandas as pd
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas.functions import pandas_udf

from distilspark.config import SparkConfig
from distilspark.spark import session


class BackgroundSession:
    """A Spark session that starts, warms up and stops in threads."""

    def __init__(self, pool: ThreadPoolExecutor, config: SparkConfig, name: str) -> None:
        self._pool = pool
        self._started: Future[SparkSession] = pool.submit(session, config, name)
        self._warm: Future[None] | None = None
        self._stopped = False

    def wait(self) -> SparkSession:
        """Return the session once it has started; raise why it has not."""
        return self._started.result()

    def warm_up(self, in_workers: Sequence[str], here: Sequence[str]) -> None:
        """Import modules in the background, in Spark's workers on this machine and then in this process."""
        self._warm = self._pool.submit(self._import, in_workers, here)

    def stop(self) -> None:
        """Let the session stop: the memory of its JVM is free for what follows."""
        if self._warm:
            self._warm.cancel()
        if not self._stopped and self._started.exception() is None:
            self._stopped = True
            self._pool.submit(self.wait().stop)

    def _import(self, in_workers: Sequence[str], here: Sequence[str]) -> None:
        spark = self.wait()
        with suppress(Exception):  # the job does without it
            if str(spark.sparkContext.master).startswith("local["):  # of a cluster's workers, this would reach one
                spark.range(0, 1, 1, 1).select(_importer(in_workers)("id")).collect()
        for module in here:
            importlib.import_module(module)


def _importer(modules: Sequence[str]) -> Callable[[str], Column]:
    """Build a Spark function that imports modules; nested, so that workers import nothing of ours for it."""

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
