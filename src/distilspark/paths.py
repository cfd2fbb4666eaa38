"""The folders of the project and of the caller."""

from __future__ import annotations

import os
import re
from pathlib import Path

from distilspark.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
CALLER = "DISTILSPARK_CALLER"  # a variable: where `mlflow run` was started, for all our processes; "": unknown


def set_caller(process: str) -> None:
    """Record the folder in which `mlflow run` was started, from the id of its process.

    MLflow starts an entry point in the project's folder and does not pass on the caller's: the shell that it starts
    resets PWD, and OLDPWD is the caller's own. So MLproject passes the shell's `$PPID`, and the operating system
    reports that process's working directory (Linux, macOS and Windows do). If it does not, only a relative path is an
    error (`from_caller`).
    """
    import psutil

    try:
        os.environ[CALLER] = psutil.Process(int(process)).cwd()
    except (psutil.Error, OSError, ValueError):
        os.environ[CALLER] = ""


def from_caller(path: str) -> str:
    """Resolve a relative path against the folder where `mlflow run` was started, if that started this process.

    URIs and absolute paths are returned unchanged, and so is every path if `mlflow run` did not start this process.

    Raises:
        UserError: the path is relative, and that folder is unknown.

    """
    folder = os.environ.get(CALLER)
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises where there is no such user
    if folder is None or not path or SCHEME.match(path) or Path(expanded).is_absolute():
        return path
    if not folder:
        raise UserError(
            f"{path} is a relative path, and the folder where `mlflow run` was started is not known: make it absolute"
        )
    return os.path.normpath(Path(folder) / path)
