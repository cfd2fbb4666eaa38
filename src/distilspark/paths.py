"""The folders of the project and of the caller."""

from __future__ import annotations

import os
import re
from pathlib import Path

from distilspark.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
CALLER = "DISTILSPARK_CALLER"  # a variable: where `mlflow run` was started, for all our processes; "": not known


def set_caller(process: str) -> None:
    """Note the folder in which `mlflow run` was started, from the id of its process.

    MLflow starts an entry point in the project's folder and hands the caller's on in no way: the shell that it starts
    sets PWD anew, and OLDPWD is the caller's own. So MLproject passes the shell's `$PPID`, and the operating system
    knows that process's working directory (Linux, macOS and Windows do). Where it does not tell, only a relative path
    is an error (`from_caller`).
    """
    import psutil

    try:
        os.environ[CALLER] = psutil.Process(int(process)).cwd()
    except (psutil.Error, OSError, ValueError):
        os.environ[CALLER] = ""


def from_caller(path: str) -> str:
    """Make a relative path absolute where `mlflow run` started this process, from the folder in which that was started.

    A URI and an absolute path stay as they are, and so does everything where a person started the process.

    Raises:
        UserError: it is relative, and that folder is not known.

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
