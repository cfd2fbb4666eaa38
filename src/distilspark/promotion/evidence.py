"""The evidence for a promotion: two models' predictions for the same rows, their speed and their size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd

from distilspark.config import PromoteConfig, PromoteRegistryConfig, TaskConfig
from distilspark.data.fingerprints import overlap
from distilspark.errors import UserError
from distilspark.evaluation.bootstrap import paired_difference
from distilspark.evaluation.predictions import Predictions
from distilspark.package.build import size_of
from distilspark.package.load import load_task_model
from distilspark.promotion.gate import Evidence
from distilspark.promotion.timing import speedup, time_packages
from distilspark.tracking.datasets import training_texts
from distilspark.tracking.registry import FoundModel


@dataclass(frozen=True)
class Contender:
    """A registered model and its training run."""

    found: FoundModel
    run_id: str

    @property
    def version(self) -> str:
        """The registered model's version."""
        return self.found.version


def load_contender(registry: PromoteRegistryConfig, version: str, task: TaskConfig, folder: Path) -> Contender:
    """Fetch a version into `folder`.

    Raises:
        UserError: as `load_task_model`; it has no training run.

    """
    own, name = folder / version, registry.name
    own.mkdir()
    found = load_task_model(f"models:/{name}/{version}", task, own, registry).found
    if found.run_id is None:
        raise UserError(
            f"version {version} of {name} has no run, so the rows that it was trained on are unknown. Train it again"
        )
    return Contender(found, found.run_id)


def check_dataset(contender: Contender, digest: str) -> None:
    """Raise `UserError` if the model's training had another dev split than these rows."""
    trained = mlflow.get_run(contender.run_id).data.tags.get("data.digest.dev", "unknown")
    if trained != digest:
        raise UserError(
            f"version {contender.version} was trained on another dataset (its dev is {trained}) than it would be "
            f"evaluated on ({digest}). Choose the data that both were trained on (data=..., data.path=...), train it "
            "again, or remove its alias"
        )


def check_overlap(contender: Contender, rows: pd.DataFrame, most: float) -> int:
    """Count the rows that were used to train or select the model.

    Raises:
        UserError: they exceed the share `most`; the run has no record of its training texts.

    """
    known = overlap(rows, training_texts(contender.run_id))
    if known > most * len(rows):
        raise UserError(
            f"version {contender.version} was trained on {known} of these {len(rows)} rows "
            f"({known / len(rows):.1%}), more than promote.max_overlap={most:g}. "
            "Evaluate on rows that it has not seen, or train it without them"
        )
    return known


def gather_evidence(
    config: PromoteConfig, champion: tuple[Contender, Predictions], challenger: tuple[Contender, Predictions]
) -> Evidence:
    """Compare two models by their predictions for the same rows in the same order, their speed and their size."""
    task, head = config.task, config.task.head_kind
    models, predictions = (champion[0], challenger[0]), (champion[1], challenger[1])
    labels, outputs = predictions[0].labels, [each.outputs for each in predictions]
    difference = paired_difference(head, task.metric, labels, outputs[:1], outputs[1:], config.evaluation)
    before, after = (head.compute_metrics(labels, each)[task.metric] for each in outputs)
    sizes = [size_of(each.found.data) for each in models]
    seconds, _ = time_packages([each.found.data for each in models], predictions[0].rows, config.promote.timing)
    return Evidence(
        task.headline,
        before,
        after,
        difference,
        speedup(seconds[0], seconds[1], config.evaluation),
        sizes[0] / sizes[1],
    )
