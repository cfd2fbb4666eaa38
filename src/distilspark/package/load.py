"""Load a packaged model, and check that it is complete and fits the task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from distilspark.config import DEFAULT_THRESHOLD, TaskConfig, TrustConfig
from distilspark.errors import UserError
from distilspark.features.encoding import load_tokenizer
from distilspark.package.code import LOADERS
from distilspark.tracking.checksums import digest_of
from distilspark.tracking.registry import FoundModel, fetch_model
from distilspark.tracking.store import first_line

SETTINGS, GRAPH, TOKENIZER = "scorer.json", "model.onnx", "tokenizer.json"  # in a package's folder
PROFILE = "profile.json"  # also there: distributions of rows that it was not trained on, as `drift.profile_of`
OUTSIDE = b"location"  # the key of an ONNX tensor that is stored in another file


@checked(frozen=True)
class PackageSettings:
    """The content of `scorer.json`."""

    task: str
    columns: list[str]
    labels: list[str]
    stop_words: list[str]
    max_length: int
    threshold: float = DEFAULT_THRESHOLD


@dataclass(frozen=True)
class TaskModel:
    """A packaged model that fits the task."""

    found: FoundModel
    labels: list[str]  # the names of the classes, in the order of their ids; empty if labels are values
    max_length: int  # tokens; longer rows are cut
    threshold: float  # for decisions (`training.threshold`)
    profile: dict[str, Any] | None  # of its validation rows, as `profile_of`; None: packaged by an earlier version

    @property
    def digest(self) -> str:
        """The sha256 over all files."""
        return digest_of(self.found.checksums)


def load_task_model(uri: str, task: TaskConfig, folder: Path, trust: TrustConfig) -> TaskModel:
    """Fetch a model into an empty folder, and check that it is complete, trusted and of this task.

    Raises:
        UserError: as `fetch_model`; it was not packaged by the project, is another task's, or has a broken file.

    """
    found = fetch_model(uri, folder, trust)
    if found.loader not in LOADERS or not (found.data / SETTINGS).is_file():
        raise UserError(
            f"model_uri={uri} was not packaged by distilspark: it has no {SETTINGS}, or is loaded by {found.loader}. "
            "Choose one that was"
        )
    with _reading(uri, SETTINGS):
        known = TypeAdapter(PackageSettings).validate_json((found.data / SETTINGS).read_bytes())
    with _reading(uri, TOKENIZER):
        load_tokenizer(found.data)
    with _reading(uri, GRAPH):
        if OUTSIDE in (found.data / GRAPH).read_bytes():
            raise ValueError("it has tensors in other files, which are not read")
    reference = None
    if (found.data / PROFILE).is_file():
        with _reading(uri, PROFILE):
            reference = dict(json.loads((found.data / PROFILE).read_bytes()))
    if (known.task, known.columns) != (task.name, task.text_columns):
        raise UserError(
            f"model_uri={uri} is a model of another task: {known.task} (it reads {', '.join(known.columns)}), "
            f"not {task.name}. Set task={known.task}, or a model_uri of {task.name}"
        )
    return TaskModel(found, known.labels, known.max_length, known.threshold, reference)


@contextmanager
def _reading(uri: str, name: str) -> Iterator[None]:
    """Convert errors to a `UserError` that names the package's file and the reason."""
    try:
        yield
    except (UserError, ValueError, TypeError, OSError) as error:
        reason = first_line(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise UserError(
            f"model_uri={uri}: {name} of its package cannot be used ({reason}). Choose another model, or train it again"
        ) from error
