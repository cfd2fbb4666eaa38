"""Commands on a Spark standalone cluster of this machine: a master and two workers, of one core and 1 GB each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standalone_cluster import HOST, Cluster, standalone_cluster

NOWHERE = "http://127.0.0.1:9"  # nothing listens there
DRIVER = {"SPARK_LOCAL_IP": HOST}  # what a driver needs in its environment


@contextmanager
def two_workers(folder: Path) -> Iterator[Cluster]:
    """A cluster below a folder; its workers have neither the project's sources nor its tracking store."""
    with standalone_cluster(folder, environment={"MLFLOW_TRACKING_URI": NOWHERE, "PYTHONPATH": ""}) as cluster:
        yield cluster


def on_cluster(cluster: Cluster) -> list[str]:
    """Overrides that put a command on the cluster, an executor on each worker; no task starts before both are there."""
    resources = ["executor_cores=1", "executor_memory=512m", "driver_memory=1g", "shuffle_partitions=2"]
    both = "scheduler.minRegisteredResourcesRatio:1.0,spark.scheduler.maxRegisteredResourcesWaitingTime:120s"
    settings = f"+spark.settings={{spark.{both},spark.dynamicAllocation.minExecutors:2}}"
    return ["spark=standalone", f"spark.master={cluster.master}", *(f"spark.{each}" for each in resources), settings]
