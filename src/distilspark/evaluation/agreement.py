"""Agreement between models, and the rows on which they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from distilspark.config import TaskConfig
from distilspark.evaluation.findings import Variant
from distilspark.heads import Head


def agreement(head: Head, variants: Sequence[Variant]) -> pd.DataFrame:
    """Compute the agreement of each two variants' predictions (`Head.agree`): the mean over all pairs of trainings.

    A variant's agreement with itself is that between its seeds, as a reference; 1 if it has only one.
    """
    labels = [variant.label for variant in variants]
    table = pd.DataFrame(np.eye(len(variants)), labels, labels)
    for (row, first), (column, second) in product(enumerate(variants), repeat=2):
        pairs = [
            head.agree(ours.outputs, theirs.outputs)
            for (seed, ours), (other, theirs) in product(first.seeds.items(), second.seeds.items())
            if row != column or seed < other
        ]
        if row <= column and pairs:
            table.iloc[row, column] = table.iloc[column, row] = float(np.mean(pairs))
    return table


def disagreements(task: TaskConfig, variants: Sequence[Variant], count: int) -> pd.DataFrame:
    """Tabulate, for each variant, at most `count` rows that it gets right and the baseline wrong, and vice versa.

    Rows are chosen by `Head.is_right_alone`, those with the largest difference first. Columns: `variant`, `right`
    (which of the two is right), `id`, `sentence1`, for pairs `sentence2`, `label`, `baseline says`, `variant says`.
    """
    baseline, *others = variants
    if not others:
        return pd.DataFrame(columns=["variant", "right", "id"])
    return pd.concat([_disagreements_with(task, baseline, other, count) for other in others], ignore_index=True)


def _disagreements_with(task: TaskConfig, baseline: Variant, other: Variant, count: int) -> pd.DataFrame:
    predictions, names = baseline.predictions, dict(enumerate(task.labels))
    rows = predictions.rows[["id", *task.text_columns]].reset_index(drop=True)
    rows["label"] = [names.get(int(label), label) for label in predictions.labels]
    for column, side in (("baseline says", baseline), ("variant says", other)):
        rows[column] = task.head_kind.describe_predictions(task, side.outputs)
    parts = [
        rows.iloc[_right_alone(task.head_kind, right, wrong, count)].assign(variant=other.label, right=right.label)
        for right, wrong in ((other, baseline), (baseline, other))
    ]
    return pd.concat(parts, ignore_index=True)[["variant", "right", *rows.columns]]


def _right_alone(head: Head, right: Variant, wrong: Variant, count: int) -> list[int]:
    """Return the positions of the rows that one variant gets right and the other wrong."""
    labels = right.predictions.labels
    errors, other_errors = (head.mean_errors(labels, side.outputs) for side in (right, wrong))
    order = np.argsort(errors - other_errors, kind="stable")
    return order[head.is_right_alone(errors, other_errors)[order]][:count].tolist()
