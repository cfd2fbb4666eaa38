"""The Spark session, from `conf/spark/*.yaml`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pyspark.sql import SparkSession

from distilspark.config import SparkConfig, flatten


def session(config: SparkConfig, name: str) -> SparkSession:
    """The Spark session with these resources; the one that runs already, where there is one.

    Workers run this interpreter (`sys.executable`), so that they have the same packages.
    """
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(config.master).appName(name)
    for key, value in _settings(config).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _settings(config: SparkConfig) -> dict[str, str]:
    settings = {
        "spark.driver.memory": config.driver_memory,
        "spark.executor.memory": config.executor_memory,
        "spark.executor.cores": config.executor_cores,
        "spark.sql.shuffle.partitions": config.shuffle_partitions,
        "spark.dynamicAllocation.enabled": config.dynamic_allocation,
        "spark.sql.execution.arrow.pyspark.enabled": True,
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": False,
        "spark.ui.showConsoleProgress": False,
        **flatten(config.settings),
    }
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in settings.items()}


def with_retries(config: SparkConfig, attempts: int = 4) -> SparkConfig:
    """The same resources, with as many attempts at a task on this machine as a cluster makes; Spark makes only one.

    >>> local = SparkConfig("local[2]", "1g", "1g", 1, 8, False, {})
    >>> with_retries(local).master, with_retries(replace(local, master="yarn")).master
    ('local[2,4]', 'yarn')
    """
    threads = re.fullmatch(r"local(?:\[(\*|\d+)\])?", config.master)
    return replace(config, master=f"local[{threads[1] or 1},{attempts}]") if threads else config  # type: ignore[type-var]


@contextmanager
def open_session(config: SparkConfig, name: str) -> Iterator[SparkSession]:
    """A session that is stopped at the end, so that its JVM's memory is free for what follows."""
    spark = session(config, name)
    try:
        yield spark
    finally:
        spark.stop()
