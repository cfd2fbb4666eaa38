"""The teacher of a distillation: registered models, and their predictions for the student's training rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd

from distilspark.cache import cached_folder
from distilspark.config import TaskConfig, TrainConfig
from distilspark.console import print_line, working
from distilspark.data.fingerprints import Hashes, overlap
from distilspark.data.splits import SEPARATOR
from distilspark.errors import UserError
from distilspark.evaluation.predictions import Array
from distilspark.model.checkpoints import RECORD, file_digest
from distilspark.package.build import outputs_of
from distilspark.package.load import TaskModel, load_task_model
from distilspark.tracking.compared_runs import find_sweep
from distilspark.tracking.datasets import training_texts
from distilspark.tracking.model_card import TEACHER
from distilspark.tracking.registry import link_input
from distilspark.tracking.runs import log_once, logged_model
from distilspark.workflows.preparation import PreparedData, Split

SWEEP = "sweep:"
OUTPUTS = "outputs.npy"


@dataclass(frozen=True)
class Teacher:
    """One model, or several whose predictions are averaged."""

    name: str  # models:/NAME/VERSION, or sweep:ID
    models: Sequence[TaskModel]
    texts: Hashes  # of all texts that they were trained on or selected with

    @property
    def digest(self) -> str:
        """A sha256 over all files of the models."""
        return hashlib.sha256(" ".join(model.digest for model in self.models).encode()).hexdigest()

    def predict(self, task: TaskConfig, rows: pd.DataFrame) -> Array:
        """Return outputs as in `Predictions`: the mean of the models' probabilities, or of their values.

        A tuned threshold has shifted the probabilities, as in scoring.
        """
        outputs = np.stack([cached_outputs(model, task, rows) for model in self.models])
        return np.asarray(outputs.mean(axis=0, dtype=np.float64))


@contextmanager
def loaded_teacher(config: TrainConfig) -> Iterator[Teacher | None]:
    """Fetch and check the models that `training.teacher` names, for the block; tag the active run with them.

    Raises:
        UserError: as `load_task_model`; a model has other labels, or its training texts are unknown.

    """
    if config.training.teacher is None:
        yield None
        return
    with TemporaryDirectory(prefix="distilspark-teacher-") as scratch:
        with working("fetching the teacher"):
            teacher = _load(config, config.training.teacher, Path(scratch))
        mlflow.set_tags({TEACHER: teacher.name, f"{TEACHER}_sha256": teacher.digest})
        for model in teacher.models:
            link_input(model.found)
        yield teacher


def _load(config: TrainConfig, name: str, scratch: Path) -> Teacher:
    try:
        models = [_load_model(config, uri, scratch / str(number)) for number, uri in enumerate(_uris(name))]
        texts = [training_texts(model.found.run_id or "unknown") for model in models]
    except UserError as error:
        message = str(error).replace("model_uri", "training.teacher").replace("sweep=", f"training.teacher={SWEEP}")
        prefix = "" if message.startswith("training.teacher=") else f"training.teacher={name}: "
        raise UserError(prefix + message) from error
    exact = f"{name} ({len(models)} models)" if name.startswith(SWEEP) else models[0].found.uri
    return Teacher(exact, models, np.unique(np.concatenate(texts)))


def _uris(name: str) -> list[str]:
    """Return the URIs of a teacher's models; of a sweep those of all finished jobs."""
    if not name.startswith(SWEEP):
        return [name]
    variants = find_sweep(name.removeprefix(SWEEP)).variants
    return [logged_model(run) for runs in variants.values() for run in runs]


def _load_model(config: TrainConfig, uri: str, folder: Path) -> TaskModel:
    folder.mkdir()
    model = load_task_model(uri, config.task, folder, config.registry)
    if model.labels != config.task.labels:
        raise UserError(
            f"model_uri={uri} has the labels {model.labels}, and task={config.task.name} {config.task.labels}"
        )
    return model


def add_teacher_outputs(teacher: Teacher, config: TrainConfig, data: PreparedData) -> PreparedData:
    """Return the data with the teacher's predictions for all splits except dev.

    Raises:
        UserError: the share of dev's rows in the teacher's training texts exceeds `training.distillation.max_overlap`.

    """
    task, metric = config.task, config.task.metric
    check_teacher_overlap(teacher, data.splits["dev"].rows, config.training.distillation.max_overlap)
    with working("predicting with the teacher"):
        splits = {name: _add_outputs(teacher, task, split) for name, split in data.splits.items() if name != "dev"}
    validation = splits["validation"]
    assert validation.soft is not None
    score = task.head_kind.compute_metrics(validation.labels, task.head_kind.shape(validation.soft))[metric]
    log_once({f"teacher/{metric}": score})
    print_line(f"teacher {teacher.name}: {metric} {score:.4f} on the validation split")
    return replace(data, splits=data.splits | splits, digest=f"{data.digest} {teacher.digest}")


def _add_outputs(teacher: Teacher, task: TaskConfig, split: Split) -> Split:
    return replace(split, soft=teacher.predict(task, split.rows).reshape(len(split.rows), -1))


def check_teacher_overlap(teacher: Teacher, dev: pd.DataFrame, most: float) -> None:
    """Raise `UserError` if more than the share `most` of dev's rows are in the teacher's training texts."""
    known = overlap(dev, teacher.texts)
    if known > most * len(dev):
        raise UserError(
            f"training.teacher={teacher.name} was trained on {known} of the {len(dev)} rows of dev "
            f"({known / len(dev):.1%}), more than training.distillation.max_overlap={most:g}: its student would have "
            "learnt from them. Choose a teacher that was trained on other rows than dev, or other data"
        )


def cached_outputs(model: TaskModel, task: TaskConfig, rows: pd.DataFrame) -> Array:
    """Return a model's outputs for rows of text, as in `Predictions`, and keep them in the user's cache.

    The cache key is a digest of the model's package and the texts. Damaged entries are computed again.
    """
    digest = hashlib.sha256(model.digest.encode())
    for column in task.text_columns:
        digest.update("\n".join(f"{text}{SEPARATOR}" for text in rows[column]).encode())
    name = f"teachers/{task.name}-{len(rows)}rows-{digest.hexdigest()[:16]}"
    folder = cached_folder(name, partial(_build, model, task, rows), _is_intact)
    outputs: Array = np.load(folder / OUTPUTS, allow_pickle=False)
    return outputs


def _build(model: TaskModel, task: TaskConfig, rows: pd.DataFrame, target: Path) -> None:
    print_line(f"the teacher {model.found.uri} predicts {len(rows)} rows, kept in the cache")
    np.save(target / OUTPUTS, outputs_of(model.found.data, task, rows))
    record = {"sha256": file_digest(target / OUTPUTS), "model": model.found.uri, "package_sha256": model.digest}
    (target / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _is_intact(folder: Path) -> bool:
    try:
        return file_digest(folder / OUTPUTS) == json.loads((folder / RECORD).read_text())["sha256"]
    except (OSError, ValueError, KeyError, UserError):
        return False
