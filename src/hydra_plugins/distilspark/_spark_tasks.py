"""Run jobs as Spark tasks, each in its own process: a job opens a Spark session, which a task must not do."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from pyspark import cloudpickle

from distilspark.config import SparkConfig
from distilspark.errors import WorkError
from distilspark.paths import ROOT
from distilspark.spark import open_session

CARRIED = ("DISTILSPARK_", "HF_", "MLFLOW_")  # prefixes of the sweep's environment variables that its jobs need


def run_tasks(resources: SparkConfig, jobs: Sequence[bytes]) -> list[Any]:
    """Run pickled pairs of a function and its arguments, one a task; return their results in order."""
    settings = {"spark.task.cpus": resources.executor_cores, "spark.executorEnv.PYTHONPATH": str(ROOT / "src")}
    environment = {key: value for key, value in os.environ.items() if key.startswith(CARRIED)}
    folder = str(Path.cwd())
    roomy = replace(resources, settings=settings | dict(resources.settings))  # type: ignore[type-var]
    with open_session(roomy, "distilspark-sweep") as spark:
        tasks = spark.sparkContext.parallelize(jobs, len(jobs))
        answers = tasks.map(lambda job: run_in_process(job, environment, folder)).collect()
    return [pickle.loads(answer) for answer in answers]


def run_in_process(job: bytes, environment: Mapping[str, str], folder: str) -> bytes:
    """Run a job in a new process, which ends when this one does; return the pickled answer.

    If that process leaves none (out of memory, for example), return a failure, so that Spark does not retry the job.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    with tempfile.TemporaryDirectory(prefix="distilspark-job-") as scratch:
        answer = Path(scratch) / "answer"
        (Path(scratch) / "job").write_bytes(job)
        ended = subprocess.Popen(
            [sys.executable, "-m", __name__, scratch],
            cwd=folder,
            env=kept | {"PYTHONPATH": str(ROOT / "src")} | dict(environment),
            stdin=subprocess.PIPE,
        )
        ended.wait()
        if answer.is_file():
            return answer.read_bytes()
    failed = JobReturn(status=JobStatus.COMPLETED)
    failed.return_value = WorkError(f"the job's process ended with {ended.returncode} and without an answer")
    return pickle.dumps(failed)


def main(scratch: Path) -> None:
    """Run the job in its process, and write the answer."""
    threading.Thread(target=_end_with_the_task, daemon=True).start()
    function, arguments = pickle.loads((scratch / "job").read_bytes())
    partial = scratch / "partial"
    partial.write_bytes(cloudpickle.dumps(function(*arguments)))
    partial.replace(scratch / "answer")


def _end_with_the_task() -> None:
    """Wait until standard input ends, as it does with the task's process, and terminate this process."""
    sys.stdin.read()
    os.kill(os.getpid(), SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
