"""Jobs in subprocesses of Spark tasks: their results, and what happens when either process dies."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pyspark import cloudpickle

from distilspark.errors import WorkError
from distilspark.paths import ROOT
from hydra_plugins.distilspark._spark_tasks import run_in_process

TASK = """
import sys
from pathlib import Path
from hydra_plugins.distilspark._spark_tasks import run_in_process
run_in_process(Path(sys.argv[1]).read_bytes(), {}, sys.argv[2])
"""


def run(function: object, *arguments: object, folder: Path, **environment: str) -> object:
    return pickle.loads(run_in_process(cloudpickle.dumps((function, arguments)), environment, str(folder)))


def test_job_returns_its_result_from_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", "of this session")

    def job(number: int) -> object:
        return (
            number + 1,
            os.getpid(),
            os.environ.get("MLFLOW_TRACKING_URI"),
            os.environ.get("PYSPARK_PYTHON"),
            str(Path.cwd()),
        )

    number, process, store, python, folder = run(job, 2, folder=tmp_path, MLFLOW_TRACKING_URI="sqlite:///x")  # type: ignore[misc]
    assert (number, store, python, folder) == (3, "sqlite:///x", None, str(tmp_path))
    assert process != os.getpid()


def test_job_whose_process_dies_fails(tmp_path: Path) -> None:
    def job() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    answer = run(job, folder=tmp_path)
    failure = answer.return_value  # type: ignore[attr-defined]
    assert isinstance(failure, WorkError) and "-9" in str(failure)


def test_job_process_ends_when_its_task_is_killed(tmp_path: Path) -> None:
    def job(started: Path) -> None:
        started.write_text(str(os.getpid()))
        signal.pause()

    started = tmp_path / "started"
    os.mkfifo(started)
    (tmp_path / "job").write_bytes(cloudpickle.dumps((job, (started,))))
    command = [sys.executable, "-c", TASK, str(tmp_path / "job"), str(tmp_path)]
    task = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    try:
        process = psutil.Process(int(started.read_text()))
        task.kill()
        process.wait(timeout=60)
    finally:
        task.kill()
        task.wait()
