"""A Spark standalone cluster on this machine, from the installed package."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark

HOST = "127.0.0.1"
WAIT = 120  # seconds


@contextmanager
def standalone_cluster(folder: Path, workers: int) -> Iterator[str]:
    """A master and workers of one core each, which keep their files in `folder`; the master's URL.

    Raises:
        TimeoutError: they do not find one another.

    """
    folder.mkdir()
    port, log = _free_port(), folder / "master.log"
    url = f"spark://{HOST}:{port}"
    with ExitStack() as stack:
        stack.enter_context(_daemon(log, "master.Master", "--port", str(port)))
        for number in range(workers):
            options = ["--cores", "1", "--memory", "2g", "--work-dir", str(folder / f"worker{number}")]
            stack.enter_context(_daemon(folder / f"worker{number}.log", "worker.Worker", *options, url))
        _wait_for(log, "Registering worker", workers)
        yield url


@contextmanager
def _daemon(log: Path, name: str, *arguments: str) -> Iterator[None]:
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    options = ["--host", HOST, "--webui-port", "0"]
    command = [str(spark_class), f"org.apache.spark.deploy.{name}", *options, *arguments]
    environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": HOST}
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
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
