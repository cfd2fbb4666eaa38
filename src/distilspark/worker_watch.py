"""Kill Spark's Python workers that stay stopped, on the machines where they run.

Spark sends SIGTERM to a worker that does not answer; a stopped process (SIGSTOP, a debugger) cannot handle it. So each
worker starts a process that watches it and the daemon that forked it.
"""

from __future__ import annotations

import os
import subprocess
import sys

WATCHED = "DISTILSPARK_WATCHED"  # in the environment: the process id of the worker that has a watch
# The standard input ends when the worker does
WATCH = """
import select, sys, time
import psutil
seconds, *processes = float(sys.argv[1]), *(psutil.Process(int(number)) for number in sys.argv[2:])
since = {}
while not select.select([0], [], [], min(seconds / 4, 10))[0]:
    stopped = [each for each in processes if each.is_running() and each.status() == psutil.STATUS_STOPPED]
    since = {each: since.get(each, time.monotonic()) for each in stopped}
    for each, start in since.items():
        if time.monotonic() - start > seconds:
            each.kill()
"""


def kill_if_stopped(seconds: float) -> None:
    """Start a process that kills this one or its parent if stopped for that long; only the first call starts one."""
    own = str(os.getpid())
    if os.environ.get(WATCHED) == own:
        return
    os.environ[WATCHED] = own
    reading, _ = os.pipe()  # this process keeps the other end until it ends
    command = [sys.executable, "-c", WATCH, str(seconds), own, str(os.getppid())]
    subprocess.Popen(
        command, stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    os.close(reading)
