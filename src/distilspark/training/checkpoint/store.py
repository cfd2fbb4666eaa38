"""Checkpoint files of an interrupted training: the newest two, written atomically and verified by sha256.

```
FOLDER/FINGERPRINT/            one training; the name is a hash of its config
  00000007-SHA256.npz          the arrays and, as JSON, the rest of the state; the sha256 is the file's own
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import AcquireReturnProxy, FileLock, Timeout
from numpy.typing import NDArray

from distilspark.cache import cache_root
from distilspark.config import TrainConfig, flatten
from distilspark.console import print_line

MAX_CHECKPOINTS = 2
MAX_AGE = 14 * 24 * 3600  # seconds since the last checkpoint of an abandoned training
IRRELEVANT_SETTINGS = {
    "training.resume",
    "training.checkpoint_every",
    "training.checkpoints",
    "training.distillation.max_overlap",
    "evaluation.seed",
    "registry.trusted_keys",
    "registry.require_digest",
}
# A setting; its neutral value; other settings that then have no effect either.
SWITCHED_OFF: dict[str, tuple[Any, set[str]]] = {
    "training.averaging": ("off", {"training.ema_decay"}),
    "training.refit": (False, set()),
    "data.unlabelled": (None, {"data.unlabelled_rows"}),
    "training.teacher": (None, {"training.distillation.temperature", "training.distillation.alpha"}),
    "training.layer_decay": (1.0, set()),
    "training.precision": ("float32", set()),
    "training.validate_every": (None, set()),
    "model.layers": (None, set()),
    "model.freeze": ([], set()),
    "model.reinitialize_layers": (0, set()),
}
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose content has been verified."""

    file: Path
    state: dict[str, Any]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Read all arrays by their names."""
        with np.load(self.file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files if name != "state"}


class CheckpointFolder:
    """The checkpoints of one training; `latest` is the newest intact one."""

    def __init__(self, path: Path) -> None:
        """Delete partial files of a killed process, and find `latest`; the folder need not exist."""
        self.path = path
        for partial in path.glob("*.partial"):
            partial.unlink(missing_ok=True)
        self.refresh()

    def refresh(self) -> None:
        """Find `latest` again, after another process may have written; delete and report damaged checkpoints."""
        self.latest = self._find_latest()

    def save(self, arrays: Arrays, state: Mapping[str, Any]) -> Path:
        """Add a checkpoint, and delete the oldest once the new one is on the disk.

        Raises:
            OSError: it cannot be written; the earlier ones are still there.

        """
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = self._files()
        number = int(earlier[-1].name.partition("-")[0]) + 1 if earlier else 1
        partial = self.path / f"{number:08d}.partial"
        try:
            _write(partial, {**arrays, "state": np.array(json.dumps(state))})
            file = partial.replace(self.path / f"{number:08d}-{_sha256(partial)}.npz")
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(self.path)
        for old in earlier[: 1 - MAX_CHECKPOINTS]:
            old.unlink(missing_ok=True)
        return file

    def part(self, name: str) -> CheckpointFolder:
        """Return the checkpoints of a part of the training, which are deleted with these."""
        return CheckpointFolder(self.path / name)

    def clear(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.latest = None

    def history(self) -> list[dict[str, float]]:
        """Read the epochs' metrics from the newest checkpoint, while another process may be writing the next."""
        files = self._files()
        try:
            return list(_read_state(files[-1])["history"]) if files else []
        except OSError:  # the other process has just deleted it
            return []

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("*-*.npz"))

    def _find_latest(self) -> Checkpoint | None:
        files = self._files()
        while files:
            file = files.pop()
            if (state := _read_verified_state(file)) is not None:
                return Checkpoint(file, state)
            file.unlink(missing_ok=True)
            consequence = "the one before it is used" if files else "there is no other, so the training starts over"
            print_line(f"the checkpoint {file} is damaged: {consequence}")
        return None


@contextmanager
def open_checkpoints(config: TrainConfig) -> Iterator[CheckpointFolder | None]:
    """Lock the checkpoints of the training that `config` describes; delete them when the block succeeds.

    Yield None if `training.checkpoint_every` is null, if the folder cannot be written, or if another process runs the
    same training.
    """
    settings = config.training
    root = Path(settings.checkpoints).expanduser().absolute() if settings.checkpoints else cache_root() / "training"
    acquired = _acquire_lock(root / f"{training_fingerprint(config)}.lock") if settings.checkpoint_every else None
    if acquired is None:
        yield None
        return
    with acquired as lock:
        _delete_abandoned(root)
        folder = CheckpointFolder(root / training_fingerprint(config))
        if not settings.resume:
            folder.clear()
        try:
            yield folder
            folder.clear()
        finally:
            if not folder.path.exists():
                Path(lock.lock_file).unlink(missing_ok=True)


def interrupted_run_id(folder: CheckpointFolder | None) -> str | None:
    """Return the id of the MLflow run that the latest checkpoint belongs to, if there is one."""
    return str(folder.latest.state["run"]) if folder and folder.latest else None


def training_fingerprint(config: TrainConfig) -> str:
    """Return 16 hex digits that identify a training: a hash of all settings that its weights depend on."""
    settings = relevant_settings(flatten(config))
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def relevant_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, by dotted keys, without those that the final weights do not depend on.

    A setting that is switched off is left out, so that a new setting does not change the fingerprints of trainings
    that earlier versions began.
    """
    irrelevant = {key for key in settings if key.startswith(("spark.", "gate.")) or key in IRRELEVANT_SETTINGS}
    for key, (neutral, dependent) in SWITCHED_OFF.items():
        irrelevant |= {key, *dependent} if settings.get(key) == neutral else set()
    return {key: value for key, value in settings.items() if key not in irrelevant}


def _acquire_lock(file: Path) -> AcquireReturnProxy[Any] | None:
    """Lock a training; the operating system releases the lock of a process that is killed."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(file, timeout=0).acquire()
    except Timeout:
        print_line("another process runs the same training: this one writes no checkpoints and starts at the beginning")
    except OSError as error:
        print_line(
            f"no checkpoints: {file.parent} cannot be written ({error.strerror or error}); set training.checkpoints"
        )
    return None


def _delete_abandoned(root: Path) -> None:
    """Delete old checkpoints, except those of running trainings, which look old after the clock was set."""
    for folder in root.iterdir():
        if folder.is_dir() and time.time() - folder.stat().st_mtime > MAX_AGE:
            lock = Path(f"{folder}.lock")
            with suppress(OSError, Timeout), FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)


def _read_verified_state(file: Path) -> dict[str, Any] | None:
    """Read a checkpoint's state; None if the file's sha256 is not the one in its name."""
    try:
        return _read_state(file) if _sha256(file) == file.stem.partition("-")[2] else None
    except OSError:
        return None


def _read_state(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as content:
        return dict(json.loads(str(content["state"])))


def _write(file: Path, arrays: Arrays) -> None:
    with file.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]
        opened.flush()
        os.fsync(opened.fileno())


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries, and so a rename, to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
