"""End runs whose process was killed, when the next run of their experiment starts on the same machine."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import mlflow
import psutil
from mlflow.exceptions import MlflowException

PROCESS = "process"  # a run's tag: machine, process id, and when the process began (`_start`)


def end_abandoned(run: mlflow.ActiveRun) -> None:
    """Tag the run with this process, and set runs to KILLED that are RUNNING although their process is gone.

    Runs of other machines and runs that this user may not change are left unchanged.
    """
    client, machine = mlflow.MlflowClient(), _machine()
    process = psutil.Process()
    client.set_tag(run.info.run_id, PROCESS, f"{machine} {process.pid} {_start(process)}")
    others = f"attributes.status = 'RUNNING' and tags.{PROCESS} LIKE '{machine} %'"
    for other in client.search_runs([run.info.experiment_id], others):
        if not _is_alive(other.data.tags[PROCESS]):
            with suppress(MlflowException):
                client.set_terminated(other.info.run_id, "KILLED")


def _machine() -> str:
    """Return the host's name and the namespace of process ids, which differs between containers."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{namespace.readlink() if namespace.is_symlink() else ''}"


def _is_alive(process: str) -> bool:
    _, number, began = process.rsplit(" ", 2)
    try:
        return _start(psutil.Process(int(number))) == began
    except psutil.NoSuchProcess:
        return False


def _start(process: psutil.Process) -> str:
    """Return when a process began: on Linux in clock ticks since the boot, as setting the clock changes its time."""
    stat = Path(f"/proc/{process.pid}/stat")
    return stat.read_text().rpartition(")")[2].split()[19] if stat.is_file() else f"{process.create_time():.0f}"
