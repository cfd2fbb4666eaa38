"""The Spark session, from `conf/spark/*.yaml`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from distilspark.config import SparkConfig, flatten
from distilspark.errors import UserError
from distilspark.jvm import UTF8, java_options, starting_jvm
from distilspark.redaction import is_secret, redact

IDLE_TIMEOUT = "spark.sql.execution.pyspark.udf.idleTimeoutSeconds"


def session(config: SparkConfig, name: str) -> SparkSession:
    """Return the running Spark session, if there is one, else a new one with these resources.

    Workers run this interpreter (`sys.executable`), so that they have the same packages. Letters are lower-cased as in
    English, whatever the machine's locale: the packaged model does the same without Spark.

    Raises:
        UserError: the JVM does not start with these settings, or on this machine.
        WorkError: it does not start for another reason.

    """
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(config.master).appName(name)
    settings = _settings(config)
    for key, value in settings.items():
        builder = builder.config(key, value)
    with starting_jvm(config):
        _start_jvm({"spark.master": config.master, **settings})
        spark = builder.getOrCreate()
    jvm: Any = spark._jvm
    jvm.java.util.Locale.setDefault(jvm.java.util.Locale.US)  # _JAVA_OPTIONS and spark-defaults.conf overrule options
    return spark


def _start_jvm(settings: Mapping[str, str]) -> None:
    """Start the JVM with all settings except secrets: PySpark puts them on its command line, where `ps` shows them."""
    shown = [(key, value) for key, value in settings.items() if not is_secret(key) and redact(value) == value]
    SparkContext._ensure_initialized(conf=SparkConf(loadDefaults=False).setAll(shown))


def _settings(config: SparkConfig) -> dict[str, str]:
    settings = {
        "spark.driver.memory": config.driver_memory,
        "spark.executor.memory": config.executor_memory,
        "spark.executor.cores": config.executor_cores,
        "spark.sql.shuffle.partitions": config.shuffle_partitions,
        "spark.dynamicAllocation.enabled": config.dynamic_allocation,
        "spark.sql.execution.arrow.pyspark.enabled": True,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": True,  # a file may have the columns `Id` and `id`
        "spark.sql.legacy.parquet.nanosAsLong": True,  # else a nanosecond timestamp makes its whole file unreadable
        "spark.ui.enabled": False,
        "spark.ui.showConsoleProgress": False,
        "spark.executorEnv.LC_ALL": UTF8,
        IDLE_TIMEOUT: config.worker_timeout,
        "spark.sql.execution.pyspark.udf.killOnIdleTimeout": True,  # its task is retried
        **flatten(config.settings),
    }
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in settings.items()}
    return texts | java_options(texts, local=is_local(config.master))


def is_local(master: str) -> bool:
    """Return whether Spark runs its tasks in the driver's JVM.

    >>> is_local("local[*]"), is_local("local"), is_local("local-cluster[2,1,1024]")
    (True, True, False)
    """
    return master.partition("[")[0] == "local"


def for_scoring(config: SparkConfig) -> SparkConfig:
    """Return the same resources with retries and, on this machine, with workers that preload a model's slow imports."""
    daemon = {"spark.python.daemon.module": "distilspark.scoring.worker_daemon"} if is_local(config.master) else {}
    return replace(with_retries(config), settings={**daemon, **config.settings})  # type: ignore[type-var]


def with_retries(config: SparkConfig, attempts: int = 4) -> SparkConfig:
    """Return the same resources, with as many attempts at a task on this machine as on a cluster; Spark makes one.

    >>> local = SparkConfig("local[2]", "1g", "1g", 1, 8, False, 1800, {})
    >>> with_retries(local).master, with_retries(replace(local, master="yarn")).master
    ('local[2,4]', 'yarn')
    """
    threads = re.fullmatch(r"local(?:\[(\*|\d+)\])?", config.master)
    return replace(config, master=f"local[{threads[1] or 1},{attempts}]") if threads else config  # type: ignore[type-var]


def for_workers(config: SparkConfig, workers: int) -> SparkConfig:
    """Return the same resources for a barrier stage: `workers` tasks at once, each with an executor's cores, retried.

    A barrier stage does not work with dynamic allocation. Every task has its own Python process, since TensorFlow's
    collectives can be set up only once in a process. With one worker nothing changes.

    >>> local = for_workers(SparkConfig("local[2]", "1g", "1g", 1, 8, False, 1800, {}), 2)
    >>> local.master, local.settings["spark.python.worker.reuse"]
    ('local[2,4]', False)

    Raises:
        UserError: this machine runs fewer tasks at once.

    """
    if workers == 1:
        return config
    local, cores = config.master.startswith("local"), workers * config.executor_cores
    if local and (there := _local_cores(config.master)) < workers:
        raise UserError(
            f"training.workers={workers}: spark.master={config.master} runs {there} tasks at once. "
            f"Set spark.master=local[{workers}], or take fewer workers"
        )
    cluster = {"spark.task.cpus": config.executor_cores, "spark.executor.instances": workers, "spark.cores.max": cores}
    settings = {
        **{key: value for key, value in flatten(config.settings).items() if "dynamicAllocation" not in key},
        **({} if local else cluster),
        "spark.python.worker.reuse": False,
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "5s",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": 24,
    }
    return with_retries(replace(config, dynamic_allocation=False, settings=settings))  # type: ignore[type-var]


def _local_cores(master: str) -> int:
    (threads,) = re.findall(r"^local\[(\*|\d+)", master) or ["1"]
    return (os.cpu_count() or 1) if threads == "*" else int(threads)


@contextmanager
def open_session(config: SparkConfig, name: str) -> Iterator[SparkSession]:
    """Open a session, and stop it at the end to free its JVM's memory."""
    spark = session(config, name)
    try:
        yield spark
    finally:
        spark.stop()
