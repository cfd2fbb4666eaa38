"""The model of a scoring: which one exactly, and whether it is this task's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilspark.config import DEFAULT_THRESHOLD, TaskConfig
from distilspark.errors import UserError
from distilspark.tracking.registry import FoundModel, fetch_model

PROFILE = "profile.json"  # in its folder: distributions of rows that it was not trained on, as `drift.profile_of`
OF_THE_DOWNLOAD = "registered_model_meta"  # the one file that is not the model's own


@dataclass(frozen=True)
class TaskModel:
    """A packaged model that fits the task."""

    found: FoundModel
    digest: str  # sha256 over all its files
    max_length: int  # tokens; what is longer is cut
    threshold: float  # that it decides by (`training.threshold`)
    profile: dict[str, Any] | None  # of its validation rows, as `profile_of`; None: packaged before there was one


def load_task_model(uri: str, task: TaskConfig, folder: Path) -> TaskModel:
    """Fetch the model into an empty folder, and check that it is this task's.

    Raises:
        UserError: there is no such model, the project did not package it, or it is another task's.

    """
    found = fetch_model(uri, folder)
    settings = found.data / "scorer.json"
    if not settings.is_file():
        raise UserError(f"model_uri={uri} was not packaged by distilspark: it has no scorer.json. Choose one that was")
    known = json.loads(settings.read_text(encoding="utf-8"))
    if (known["task"], known["columns"]) != (task.name, task.text_columns):
        raise UserError(
            f"model_uri={uri} is a model of another task: {known['task']} (it reads {', '.join(known['columns'])}), "
            f"not {task.name}. Set task={known['task']}, or a model_uri of {task.name}"
        )
    profile = found.data / PROFILE
    reference = json.loads(profile.read_text(encoding="utf-8")) if profile.is_file() else None
    return TaskModel(
        found, digest_of(found.folder), known["max_length"], known.get("threshold", DEFAULT_THRESHOLD), reference
    )


def digest_of(folder: Path) -> str:
    """The sha256 of a folder's files, names and contents."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name != OF_THE_DOWNLOAD):
        digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
