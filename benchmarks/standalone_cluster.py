"""A local Spark standalone cluster from the installed package; the tests use it too."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyspark

HOST = "127.0.0.1"
WAIT = 120  # seconds
EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"


@dataclass(frozen=True)
class Cluster:
    """A running master and its workers."""

    master: str  # its URL
    folder: Path  # with the logs, and a folder for each worker
    workers: list[int]  # their process ids

    def executors(self) -> list[psutil.Process]:
        """Return the executor JVMs that run now."""
        below = [child for worker in self.workers for child in psutil.Process(worker).children()]
        return [child for child in below if _is_executor(child)]


def _is_executor(process: psutil.Process) -> bool:
    try:
        return EXECUTOR in process.cmdline()
    except psutil.NoSuchProcess:  # the process has ended
        return False


@contextmanager
def standalone_cluster(
    folder: Path, workers: int = 2, memory: str = "1g", environment: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Run a master and one-core workers for the duration of the block.

    Args:
        folder: the cluster's folder, which is created.
        workers: the number of workers.
        memory: each worker's memory for executors.
        environment: variables for the workers and their executors, added to the caller's.

    Raises:
        TimeoutError: the master or its workers do not start in time.

    """
    folder.mkdir(parents=True)
    port, log = _free_port(), folder / "master.log"
    url = f"spark://{HOST}:{port}"
    with ExitStack() as stack:
        stack.enter_context(_daemon(log, {}, "master.Master", "--port", str(port)))
        ids = []
        for number in range(workers):
            options = ["--cores", "1", "--memory", memory, "--work-dir", str(folder / f"worker{number}")]
            worker = _daemon(folder / f"worker{number}.log", environment or {}, "worker.Worker", *options, url)
            ids.append(stack.enter_context(worker))
        _wait_for(log, "Registering worker", workers)
        yield Cluster(url, folder, ids)


@contextmanager
def _daemon(log: Path, environment: Mapping[str, str], name: str, *arguments: str) -> Iterator[int]:
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    options = ["--host", HOST, "--webui-port", "0"]
    command = [str(spark_class), f"org.apache.spark.deploy.{name}", *options, *arguments]
    own = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": HOST}
    with log.open("w") as stream:
        process = subprocess.Popen(command, env={**os.environ, **own, **environment}, stdout=stream, stderr=stream)
    try:
        yield process.pid
    finally:
        process.terminate()  # a worker ends its executors
        process.wait()


def _wait_for(log: Path, message: str, times: int) -> None:
    end = time.monotonic() + WAIT
    while log.read_text().count(message) < times:
        if time.monotonic() > end:
            raise TimeoutError(f"no {times} workers after {WAIT} s: {log.read_text()}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])
