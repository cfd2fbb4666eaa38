"""Where the project is, and where the caller is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from distilspark.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
CALLER = "DISTILSPARK_CALLER"  # the caller's folder, for this process and those that it starts; "": not known


def set_caller(process: str) -> None:
    """Note the folder in which `mlflow run` was started, from the id of its process.

    MLflow starts an entry point in the project's folder and hands the caller's on in no way: the shell that it starts
    sets PWD anew, and OLDPWD is the caller's own. So MLproject passes the shell's `$PPID`, and the operating system
    knows that process's working directory (Linux, macOS and Windows do). Where it does not tell, only a relative path
    is an error (`absolute`).
    """
    import psutil

    try:
        os.environ[CALLER] = psutil.Process(int(process)).cwd()
    except (psutil.Error, OSError, ValueError):
        os.environ[CALLER] = ""


def absolute(path: str) -> str:
    """A local path as an absolute one, from the caller's folder where it is relative; a URI, and "", as it is.

    >>> absolute("s3a://bucket/glue"), absolute("/data/glue/*.tsv")
    ('s3a://bucket/glue', '/data/glue/*.tsv')

    Raises:
        UserError: it is relative, and `mlflow run` started this process from a folder that is not known.

    """
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises where there is no such user
    if not path or SCHEME.match(path) or Path(expanded).is_absolute():
        return expanded
    folder = os.environ.get(CALLER)
    if folder == "":
        raise UserError(
            f"{path} is a relative path, and the folder where `mlflow run` was started is not known: make it absolute"
        )
    return os.path.normpath(Path(folder or Path.cwd()) / expanded)
