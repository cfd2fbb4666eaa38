"""Checkpoints of a training that may be killed: whole or not at all, two of them, known by their content.

```
FOLDER/FINGERPRINT/            one training: what it is made of decides on the name
  00000007-SHA256.npz          the arrays and, as JSON, the rest of its state; the sha256 is the file's own
  00000008-SHA256.npz
FOLDER/FINGERPRINT.lock        held by the process that trains
```
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import AcquireReturnProxy, FileLock, Timeout
from numpy.typing import NDArray

from distilspark.cache import cache_root
from distilspark.config import TrainConfig, flatten
from distilspark.console import say

KEPT = 2
FORGOTTEN_AFTER = 14 * 24 * 3600  # seconds: a training that nobody has gone on with
NOT_DECISIVE = {"training.resume", "training.checkpoint_every", "training.checkpoints", "evaluation.seed"}
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose content has been verified."""

    file: Path
    state: dict[str, Any]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by their names."""
        with np.load(self.file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files if name != "state"}


class CheckpointFolder:
    """The checkpoints of one training."""

    def __init__(self, path: Path) -> None:
        """The newest that is whole is `found`; the folder need not be there."""
        self.path = path
        for partial in path.glob("*.partial"):
            partial.unlink(missing_ok=True)
        self.look()

    def look(self) -> None:
        """Find the newest that is whole; damaged ones are deleted, and told."""
        self.found = self._newest()

    def save(self, arrays: Arrays, state: Mapping[str, Any]) -> Path:
        """Add a checkpoint, and drop the oldest once the new one is on the disk.

        Raises:
            OSError: it cannot be written; those that were there are still there.

        """
        self.path.mkdir(parents=True, exist_ok=True)
        there = self._files()
        number = int(there[-1].name.partition("-")[0]) + 1 if there else 1
        partial = self.path / f"{number:08d}.partial"
        try:
            _write(partial, {**arrays, "state": np.array(json.dumps(state))})
            file = partial.replace(self.path / f"{number:08d}-{_digest(partial)}.npz")
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(self.path)
        for old in there[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        return file

    def clear(self) -> None:
        """Forget the training."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.found = None

    def history(self) -> list[dict[str, float]]:
        """The epochs' metrics in the newest, while another process may be writing the next."""
        files = self._files()
        try:
            return list(_state(files[-1])["history"]) if files else []
        except OSError:  # it has just been dropped
            return []

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("*-*.npz"))

    def _newest(self) -> Checkpoint | None:
        files = self._files()
        while files:
            file = files.pop()
            if (state := _verified_state(file)) is not None:
                return Checkpoint(file, state)
            file.unlink(missing_ok=True)
            way_on = "the one before it is taken" if files else "there is no other, the training starts anew"
            say(f"the checkpoint {file} is damaged: {way_on}")
        return None


@contextmanager
def open_checkpoints(config: TrainConfig) -> Iterator[CheckpointFolder | None]:
    """The checkpoints of the training that `config` describes, for this process alone; deleted when all went well.

    None where `training.checkpoint_every` wants none, where they cannot be written, or where another process is at the
    same training.
    """
    settings = config.training
    root = Path(settings.checkpoints).expanduser().absolute() if settings.checkpoints else cache_root() / "training"
    held = _lock(root / f"{fingerprint(config)}.lock") if settings.checkpoint_every else None
    if held is None:
        yield None
        return
    with held as lock:
        _forget_old(root)
        folder = CheckpointFolder(root / fingerprint(config))
        if not settings.resume:
            folder.clear()
        try:
            yield folder
            folder.clear()
        finally:
            if not folder.path.exists():
                Path(lock.lock_file).unlink(missing_ok=True)


def interrupted_run(folder: CheckpointFolder | None) -> str | None:
    """The id of the MLflow run that the checkpoint belongs to, where there is one."""
    return str(folder.found.state["run"]) if folder and folder.found else None


def fingerprint(config: TrainConfig) -> str:
    """16 hex digits over all that makes a training what it is: the config without resources and without these keys."""
    return hashlib.sha256(json.dumps(decisive(flatten(config)), sort_keys=True).encode()).hexdigest()[:16]


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, by dotted keys, without those that the weights at the end do not depend on."""
    return {key: value for key, value in settings.items() if not key.startswith("spark.") and key not in NOT_DECISIVE}


def _lock(file: Path) -> AcquireReturnProxy[Any] | None:
    """The lock of a training, which a process that is killed gives back."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(file, timeout=0).acquire()
    except Timeout:
        say("another process is at the same training: this one keeps no checkpoints and starts at the beginning")
    except OSError as error:
        say(f"no checkpoints: {file.parent} cannot be written ({error.strerror or error}); set training.checkpoints")
    return None


def _forget_old(root: Path) -> None:
    for folder in root.iterdir():
        if folder.is_dir() and time.time() - folder.stat().st_mtime > FORGOTTEN_AFTER:
            shutil.rmtree(folder, ignore_errors=True)
            Path(f"{folder}.lock").unlink(missing_ok=True)


def _verified_state(file: Path) -> dict[str, Any] | None:
    """The state that a checkpoint holds; None where the file is not what was written."""
    try:
        return _state(file) if _digest(file) == file.stem.partition("-")[2] else None
    except OSError:
        return None


def _state(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as content:
        return dict(json.loads(str(content["state"])))


def _write(file: Path, arrays: Arrays) -> None:
    with file.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]
        opened.flush()
        os.fsync(opened.fileno())


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Let the rename reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
