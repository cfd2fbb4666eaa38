"""The sha256 of each file of a packaged model, checked before MLflow runs any of the package's code.

Spark's workers get this module from the driver and may lack the project, so it imports nothing from it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DOWNLOAD_METADATA = "registered_model_meta"  # MLflow adds this file; it is not the model's own
MAX_SHOWN = 3  # maximum number of changed files in a message


class ChangedPackageError(Exception):
    """A package with changed or unexpected files; the message names them."""


def files_of(folder: Path) -> list[Path]:
    """Return the files of a package, below its folder.

    Raises:
        ChangedPackageError: it has a link, a special file, or an unprintable name.

    """
    files = []
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *names)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()) or not name.isprintable():
                raise ChangedPackageError(f"{name!r} is a link, no file, or has no printable name")
            if path.is_file() and name != DOWNLOAD_METADATA:
                files.append(path)
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def read_checksums(folder: Path) -> str:
    """Return the checksums of a package's files, a line each, as `sha256sum` prints and checks them."""
    lines = []
    for path in files_of(folder):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def digest_of(checksums: str) -> str:
    """Return the sha256 of a whole package."""
    return hashlib.sha256(checksums.encode()).hexdigest()


def find_changes(expected: str, checksums: str) -> str:
    r"""Describe the files that differ; empty if none does.

    >>> find_changes("1  a\n2  b\n3  c\n", "1  a\n4  b\n5  d\n")
    'b was changed, c is missing, d was added'
    """
    known, there = (dict(line.split("  ", 1)[::-1] for line in text.splitlines()) for text in (expected, checksums))
    changes = [
        f"{name} {'is missing' if name not in there else 'was changed' if name in known else 'was added'}"
        for name in sorted(known.keys() | there.keys())
        if known.get(name) != there.get(name)
    ]
    more = [f"and {len(changes) - MAX_SHOWN} more"] if len(changes) > MAX_SHOWN else []
    return ", ".join(changes[:MAX_SHOWN] + more)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def checked_loading(expected: str) -> Iterator[Callable[[], None]]:
    """Patch MLflow to check a package before it is loaded in this process; once, unless a file is touched.

    Yields:
        a function that raises if no package was checked, because this MLflow loads models in another way.

    """
    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    load = pyfunc.load_model
    checked: dict[str, Any] = vars(pyfunc).setdefault("_distilspark_checked", {})
    sys.dont_write_bytecode = True  # all workers of a machine share a package, whose files must not change

    def check_and_load(model_uri: str, *arguments: Any, **named: Any) -> Any:
        stamps = {str(file): _stamp(file.stat()) for file in files_of(Path(model_uri))}
        if checked.get(expected) != stamps:
            if changes := find_changes(expected, read_checksums(Path(model_uri))):
                raise ChangedPackageError(changes)
            checked[expected] = stamps
        return load(model_uri, *arguments, **named)

    def was_checked() -> None:
        if expected not in checked:
            raise RuntimeError("the package could not be checked before it was loaded: this MLflow loads it otherwise")

    pyfunc.load_model = check_and_load
    try:
        yield was_checked
    finally:
        pyfunc.load_model = load
