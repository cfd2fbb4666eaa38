"""A process that stays stopped is killed by the watch beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

WATCHED = """
import time
from distilspark.worker_watch import kill_if_stopped
kill_if_stopped(.4)
kill_if_stopped(.4)
print("watched", flush=True)
time.sleep(60)
"""


@pytest.fixture
def watched() -> Iterator[psutil.Process]:
    """Start a watched process with a watched parent."""
    command = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WATCHED!r}])"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout and parent.stdout.readline() == b"watched\n"
        (child,) = psutil.Process(parent.pid).children()
        yield child
        for process in (child, parent):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_stopped_worker_is_killed_and_its_watch_ends(watched: psutil.Process) -> None:
    (watch,) = watched.children()
    watched.suspend()
    psutil.wait_procs([watched, watch], timeout=20)
    assert not watched.is_running()
    assert not watch.is_running() or watch.status() == psutil.STATUS_ZOMBIE


def test_stopped_daemon_is_killed(watched: psutil.Process) -> None:
    daemon = watched.parent()
    assert daemon
    daemon.suspend()
    psutil.wait_procs([daemon], timeout=20)
    assert not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE
