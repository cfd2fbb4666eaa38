"""A folder for all temporary files of a process, which is deleted however the process ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "distilspark-"
LOCK = ".lock"  # held for as long as the process lives
held_locks: list[FileLock] = []


def use_scratch_folder() -> None:
    """Use one folder for the temporary files of this process, its JVM and its children, and delete it at the end.

    Folders that killed processes left are deleted too. Does nothing if it was called before, or if the folder for
    temporary files cannot be written.
    """
    if held_locks:
        return
    with suppress(OSError):
        _delete_abandoned(Path(tempfile.gettempdir()))
        folder = tempfile.mkdtemp(prefix=PREFIX)
        held_locks.append(FileLock(f"{folder}/{LOCK}"))
        held_locks[0].acquire()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        tempfile.tempdir = os.environ["TMPDIR"] = folder


def _delete_abandoned(parent: Path) -> None:
    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError, Timeout):
            if lock.stat().st_uid == os.getuid():
                with FileLock(lock, timeout=0):
                    shutil.rmtree(lock.parent, ignore_errors=True)
