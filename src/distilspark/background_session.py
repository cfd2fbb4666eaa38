"""Start Spark, which takes seconds, in the background."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event

import psutil
from pyspark.sql import SparkSession

from distilspark.config import SparkConfig
from distilspark.console import print_line
from distilspark.spark import is_local, session

WATCH_SECONDS = 10


class BackgroundSession:
    """A Spark session that starts, warms up and stops in threads."""

    def __init__(self, pool: ThreadPoolExecutor, config: SparkConfig, name: str) -> None:
        self._pool, self._timeout = pool, config.worker_timeout
        self._started: Future[SparkSession] = pool.submit(session, config, name)
        self._warm: Future[None] | None = None
        self._stopped, self._ended = False, Event()

    def wait(self) -> SparkSession:
        """Return the session once it has started; raise the error if it failed to start."""
        return self._started.result()

    def warm_up(self, modules: Sequence[str]) -> None:
        """Start Spark's Python workers on this machine in the background, and then import modules in this process."""
        self._warm = self._pool.submit(self._warm_up, modules)

    def kill_stopped_processes(self) -> None:
        """Kill the JVM and Python workers on this machine that stay stopped for longer than the timeout.

        Spark sends SIGTERM to a worker that does not answer; a stopped process (SIGSTOP, a debugger) cannot handle it.
        """
        self._pool.submit(self._watch_processes)

    def _watch_processes(self) -> None:
        since: dict[psutil.Process, float] = {}
        while not self._ended.wait(min(self._timeout / 4, WATCH_SECONDS)):
            stopped = {each for each in psutil.Process().children(recursive=True) if _is_stopped(each)}
            since = {each: since.get(each, time.monotonic()) for each in stopped}
            for process, start in since.items():
                if time.monotonic() - start > self._timeout:
                    print_line(f"process {process.pid} of Spark has been stopped for {self._timeout} s, and is killed")
                    with suppress(psutil.NoSuchProcess):
                        process.kill()

    def stop(self) -> None:
        """Stop the session in the background, which frees the memory of its JVM."""
        self._ended.set()
        if self._warm:
            self._warm.cancel()
        if not self._stopped and self._started.exception() is None:
            self._stopped = True
            self._pool.submit(self.wait().stop)

    def _warm_up(self, modules: Sequence[str]) -> None:
        spark = self.wait()
        with suppress(Exception):  # the job can do without it
            if is_local(str(spark.sparkContext.master)):  # on a cluster, this would reach only one worker
                spark.range(0, 1, 1, 1).mapInArrow(lambda batches: batches, "id long").collect()
        for module in modules:
            importlib.import_module(module)


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


@contextmanager
def starting_session(config: SparkConfig, name: str) -> Iterator[BackgroundSession]:
    """Start a session in the background, and stop it at the end, even if nobody waited for it."""
    with ThreadPoolExecutor(3, "spark") as pool:
        background = BackgroundSession(pool, config, name)
        background.kill_stopped_processes()
        try:
            yield background
        finally:
            background.stop()
