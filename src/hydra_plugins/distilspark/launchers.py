"""A launcher whose jobs are Spark tasks: `conf/hydra/launcher/spark.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SparkLauncher(Launcher):
    """A launcher of jobs on a Spark cluster, as many at a time as it has cores for, each in its own process.

    Every machine must have the project in the same folder, the same packages, and access to the tracking store.

    Args:
        resources: the fields of `SparkConfig`, for the session that the tasks belong to.

    """

    def __init__(self, resources: DictConfig) -> None:
        self.resources = resources
        self.hydra_context: HydraContext
        self.task_function: TaskFunction
        self.config: DictConfig

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes before `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs to their end; return their results in order."""
        from hydra_plugins.hydra_joblib_launcher._core import execute_job
        from pyspark import cloudpickle

        from distilspark.config import SparkConfig, from_hydra
        from hydra_plugins.distilspark._spark_tasks import run_tasks

        state = Singleton.get_state()
        jobs: list[Any] = [
            (initial_job_idx + number, overrides, self.hydra_context, self.config, self.task_function, state)
            for number, overrides in enumerate(job_overrides)
        ]
        return run_tasks(
            from_hydra(SparkConfig, self.resources), [cloudpickle.dumps((execute_job, job)) for job in jobs]
        )
