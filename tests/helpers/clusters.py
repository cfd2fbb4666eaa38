"""Commands on a local Spark standalone cluster: a master and two workers with one core and 1 GB each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standalone_cluster import HOST, Cluster, standalone_cluster

NOWHERE = "http://127.0.0.1:9"  # a port on which nothing listens
DRIVER = {"SPARK_LOCAL_IP": HOST}  # what a driver needs in its environment


@contextmanager
def two_workers(folder: Path) -> Iterator[Cluster]:
    """Start a cluster in a folder; its workers have neither the project's sources nor its tracking store."""
    with standalone_cluster(folder, environment={"MLFLOW_TRACKING_URI": NOWHERE, "PYTHONPATH": ""}) as cluster:
        yield cluster


def on_cluster(cluster: Cluster) -> list[str]:
    """Return overrides that run a command on the cluster with one executor a worker, once both have registered."""
    resources = ["executor_cores=1", "executor_memory=512m", "driver_memory=1g", "shuffle_partitions=2"]
    both = "scheduler.minRegisteredResourcesRatio:1.0,spark.scheduler.maxRegisteredResourcesWaitingTime:120s"
    settings = f"+spark.settings={{spark.{both},spark.dynamicAllocation.minExecutors:2}}"
    return ["spark=standalone", f"spark.master={cluster.master}", *(f"spark.{each}" for each in resources), settings]
