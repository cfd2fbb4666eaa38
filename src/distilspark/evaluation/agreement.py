"""Where models agree, and the rows on which they don't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd

from distilspark.config import Head, TaskConfig
from distilspark.evaluation.findings import Variant
from distilspark.evaluation.metrics import compute_metrics
from distilspark.evaluation.predictions import Array, Predictions

AGREEMENT: dict[Head, str] = {"classification": "share of equal predictions", "regression": "Pearson's correlation"}


def _equal_share(first: Predictions, second: Predictions) -> float:
    return float((first.predicted == second.predicted).mean())


def _correlation(first: Predictions, second: Predictions) -> float:
    return compute_metrics("regression", first.outputs, second.outputs)["pearson"]


_MEASURE: dict[Head, Callable[[Predictions, Predictions], float]] = {
    "classification": _equal_share,
    "regression": _correlation,
}


def agreement(head: Head, variants: Sequence[Variant]) -> pd.DataFrame:
    """How much each two variants say the same (`AGREEMENT`): the mean over all pairs of their trainings.

    A variant with itself: over its different seeds, which is what any two trainings differ by; 1 where there is one.
    """
    measure, labels = _MEASURE[head], [variant.label for variant in variants]
    table = pd.DataFrame(np.eye(len(variants)), labels, labels)
    for (row, first), (column, second) in product(enumerate(variants), repeat=2):
        pairs = [
            measure(ours, theirs)
            for (seed, ours), (other, theirs) in product(first.seeds.items(), second.seeds.items())
            if row != column or seed < other
        ]
        if row <= column and pairs:
            table.iloc[row, column] = table.iloc[column, row] = float(np.mean(pairs))
    return table


def _say_class(task: TaskConfig, variant: Variant) -> Array:
    """The label that most seeds predict, and how many do where there are several."""
    said = np.stack([predictions.predicted for predictions in variant.seeds.values()])
    votes = (said[:, :, None] == np.arange(len(task.labels))).sum(axis=0)
    names = np.array(task.labels, dtype=object)[votes.argmax(axis=1)]
    if len(said) == 1:
        return names
    counts = votes.max(axis=1)
    return np.array([f"{name} ({n} of {len(said)})" for name, n in zip(names, counts, strict=True)], dtype=object)


def _say_value(task: TaskConfig, variant: Variant) -> Array:
    return np.mean(variant.outputs, axis=0).astype(float)


def _class_errors(variant: Variant) -> Array:
    """The share of seeds that are wrong."""
    return np.mean([each.predicted != each.labels for each in variant.seeds.values()], axis=0)


def _value_errors(variant: Variant) -> Array:
    return np.abs(np.mean(variant.outputs, axis=0) - variant.predictions.labels)


def _choose_classes(better: Array, worse: Array, count: int) -> Array:
    """Rows that most seeds of one get right and most of the other wrong, the most unanimous first."""
    chosen = np.flatnonzero((better < 0.5) & (worse > 0.5))
    return chosen[np.argsort((better - worse)[chosen], kind="stable")][:count]


def _choose_values(better: Array, worse: Array, count: int) -> Array:
    """Rows that one is nearer to than the other, the largest difference in their errors first."""
    order = np.argsort(better - worse, kind="stable")
    return order[(better < worse)[order]][:count]


_SAY: dict[Head, Callable[[TaskConfig, Variant], Array]] = {"classification": _say_class, "regression": _say_value}
_ERRORS: dict[Head, Callable[[Variant], Array]] = {"classification": _class_errors, "regression": _value_errors}
_CHOOSE: dict[Head, Callable[[Array, Array, int], Array]] = {
    "classification": _choose_classes,
    "regression": _choose_values,
}


def disagreements(task: TaskConfig, variants: Sequence[Variant], count: int) -> pd.DataFrame:
    """For each variant at most `count` rows that it gets right and the baseline wrong, and as many the other way.

    Regression: nearer to the label instead of right. Columns: `variant`, `right` (which of the two it is), `id`,
    `sentence1`, for pairs `sentence2`, `label`, `baseline says`, `variant says`.
    """
    baseline, *others = variants
    if not others:
        return pd.DataFrame(columns=["variant", "right", "id"])
    return pd.concat([_against(task, baseline, other, count) for other in others], ignore_index=True)


def _against(task: TaskConfig, baseline: Variant, other: Variant, count: int) -> pd.DataFrame:
    choose, (ours, theirs) = _CHOOSE[task.head], (_ERRORS[task.head](side) for side in (baseline, other))
    chosen = {other.label: choose(theirs, ours, count), baseline.label: choose(ours, theirs, count)}
    predictions = baseline.predictions
    names = dict(enumerate(task.labels))
    said = predictions.rows[["id", *task.text_columns]].reset_index(drop=True)
    said["label"] = [names.get(int(label), label) for label in predictions.labels]
    said["baseline says"], said["variant says"] = (_SAY[task.head](task, side) for side in (baseline, other))
    parts = [said.iloc[rows].assign(variant=other.label, right=right) for right, rows in chosen.items()]
    table = pd.concat(parts, ignore_index=True)
    return table[["variant", "right", *said.columns]]
