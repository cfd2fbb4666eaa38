"""The user's cache: folders that are built once, appear whole or not at all, and are shared by processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from distilspark.console import print_line
from distilspark.errors import UserError

BUILD_SECONDS = 3600  # a download can take long


def cache_root() -> Path:
    """Return `DISTILSPARK_CACHE`, else the platform's cache: on Linux `~/.cache/distilspark`, or XDG_CACHE_HOME."""
    chosen = os.environ.get("DISTILSPARK_CACHE") or user_cache_path("distilspark", appauthor=False)
    return Path(chosen).expanduser().absolute()


def cached_folder(name: str, build: Callable[[Path], None], is_intact: Callable[[Path], bool] = Path.is_dir) -> Path:
    """Return the cache's folder `name`, made by `build(empty_folder)` if it is missing or not `is_intact`.

    Two processes that need the same folder build it once: the second waits. A failed build leaves nothing.

    Raises:
        UserError: the cache cannot be written (disk full, no permission), or another process has been building the
            folder for `BUILD_SECONDS`; the message names it and a remedy.

    """
    folder = cache_root() / name
    if is_intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock", timeout=BUILD_SECONDS):
            if not is_intact(folder):
                if folder.is_dir():
                    print_line(f"{folder} is damaged: rebuilding it")
                    shutil.rmtree(folder)
                _build_whole(folder, build)
    except Timeout as error:
        raise UserError(
            f"another process has been making {folder} for {BUILD_SECONDS} seconds. "
            "End it if it does not answer, and run this again"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}. "
            "Free some space there, or choose another folder with DISTILSPARK_CACHE"
        ) from error
    return folder


def _build_whole(folder: Path, build: Callable[[Path], None]) -> None:
    prefix = f"{folder.name}.partial-"
    for left in folder.parent.iterdir():
        if left.name.startswith(prefix):  # by a killed process, since we hold the lock
            shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        build(partial)
        partial.chmod(0o755)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
