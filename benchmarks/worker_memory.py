"""Memory of a command and of Spark's Python workers while a job runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

EVERY = 0.2  # seconds


def watch_workers(driver: subprocess.Popen[str], progress: Callable[[], int]) -> list[float]:
    """Wait for the driver to end; return the largest worker's peak MiB while `progress()` was 0, 1, 2, ..."""
    peaks: list[float] = []
    while driver.poll() is None:
        done = progress()
        peaks += [0.0] * (done + 1 - len(peaks))
        peaks[done] = max(peaks[done], largest_worker(driver.pid))
        time.sleep(EVERY)
    return peaks


def largest_worker(driver: int) -> float:
    """Return the MiB of the largest Python process below the driver's JVM."""
    sizes = [0]
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if any("pyspark.daemon" in word for word in process.cmdline()):
                sizes.append(process.memory_info().rss)
        except psutil.Error:  # the process has ended
            continue
    return max(sizes) / 2**20


def watch_memory(command: subprocess.Popen[str]) -> float:
    """Wait for the command to end; return the peak MiB of it and its children. Shared pages count once (PSS)."""
    peak = 0.0
    while command.poll() is None:
        peak = max(peak, _total(command.pid))
        time.sleep(EVERY)
    return peak


def _total(parent: int) -> float:
    try:
        processes = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    except psutil.Error:  # the command has ended
        return 0
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 2**20
