"""Make the k-th file operation fail, or simulate a kill at it, within the test's own process.

Python's operations are observed through audit events, Hadoop's and Spark's through wrappers of their functions.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import DataFrameWriter

from distilspark.data import filesystem

Kind = Literal["error", "kill"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = {"os.rename": "rename", "os.remove": "delete", "os.mkdir": "create", "os.rmdir": "delete"}
EVENTS |= {"os.listdir": "list", "os.scandir": "list"}
HADOOP = {"create": "create", "rename": "rename", "delete": "delete", "mkdirs": "create", "listStatus": "list"}
active: Operations | None = None


class KilledError(BaseException):
    """Simulates a kill: clean-up code that runs afterwards changes nothing."""


@dataclass
class Operations:
    """Count operations below a folder and fail the k-th; after a kill, fail all that follow.

    A `write` fails once its file has been created and some bytes are written.
    """

    folder: Path
    k: int | None = None
    kind: Kind = "error"
    done: list[str] = field(default_factory=list)
    _limit: tuple[int, int] | None = None  # the file size limit before a write was made to fail

    def take(self, operation: str, path: str, failure: Callable[[str], Exception] | None = None) -> None:
        """Count an operation, or fail it with `failure(path)`, by default an error for a full disk."""
        self.lift_limit()
        if str(self.folder) not in path:
            return
        if self.kind == "kill" and self.k and len(self.done) >= self.k:
            raise KilledError
        self.done.append(f"{operation} {path.partition(str(self.folder))[2]}")
        if len(self.done) != self.k:
            return
        if operation == "write":
            self._limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, self._limit[1]))
        elif self.kind == "kill":
            raise KilledError
        else:
            raise failure(path) if failure else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def lift_limit(self) -> None:
        """Restore the limit on file sizes."""
        if self._limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
            self._limit = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if active is None or not (event in EVENTS or event == "open"):
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes | os.PathLike) and flags & WRITES:
            name = _absolute(path, -1)
            active.take("create", name)
            if not name.endswith(".lock"):  # nothing is written to these
                active.take("write", name)
        return
    path, *others = arguments
    active.take(EVENTS[event], _absolute(path, others[-1] if event in ("os.remove", "os.rmdir") else -1))


def _absolute(path: Any, folder: int) -> str:
    """Return the absolute path of a file descriptor, or of a path relative to a folder's descriptor."""
    if isinstance(path, int):
        return str(_path_of(path))
    return str((_path_of(folder) if folder >= 0 else Path.cwd()) / os.fsdecode(path or "."))


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


class _Hadoop:
    """A Hadoop file system that counts its operations."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)

        def counted(*arguments: Any) -> Any:
            if active and name in HADOOP:
                path = arguments[0].toString()
                if name == "delete" and len(active.done) + 1 == active.k:
                    _delete_most(Path(path.partition(":")[2]))
                active.take(HADOOP[name], path)
            return method(*arguments)

        return counted


def _delete_most(folder: Path) -> None:
    """Delete everything in a folder except the last entry, like a deletion that is interrupted."""
    for entry in sorted(folder.iterdir())[:-1] if folder.is_dir() else []:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _counted_write(write: Callable[..., None]) -> Callable[..., None]:
    """Count one operation before Spark writes and one after it; the second fails when all rows are written."""

    def counted(writer: DataFrameWriter, path: str, *arguments: Any, **options: Any) -> None:
        for step in ("create", "close"):
            if active:
                active.take(step, path, lambda path: PySparkRuntimeError(f"No space left on device: {path}"))
            if step == "create":
                write(writer, path, *arguments, **options)

    return counted


@contextmanager
def operations(folder: Path, k: int | None = None, kind: Kind = "error") -> Iterator[Operations]:
    """Count the operations below the folder within this block; the k-th fails."""
    global active  # an audit hook can never be removed
    if not hasattr(sys, "_hears_operations"):
        sys.addaudithook(_hear)
        sys._hears_operations = True  # type: ignore[attr-defined]
    real = filesystem.filesystem_of
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(filesystem, "filesystem_of", lambda spark, uri: _Hadoop(real(spark, uri)))
        for name in ("parquet", "save"):
            changed.setattr(DataFrameWriter, name, _counted_write(getattr(DataFrameWriter, name)))
        active = Operations(folder, k, kind)
        try:
            yield active
        finally:
            active.lift_limit()
            active = None


def crash_points(count: int, most: int | None = None) -> list[tuple[int, Kind]]:
    """Return every operation with both kinds of failure, or a fixed sample of `most` of them."""
    every: list[tuple[int, Kind]] = [(k, kind) for k in range(1, count + 1) for kind in ("error", "kill")]
    return every if most is None or most >= len(every) else sorted(random.Random(7).sample(every, most))
