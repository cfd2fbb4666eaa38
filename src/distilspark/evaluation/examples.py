"""The rows that a model gets most right and most wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from distilspark.config import Head, TaskConfig
from distilspark.evaluation.predictions import Array, Predictions

Chosen = tuple[Array, Array]  # positions of the best rows and of the worst, best and worst first


def _choose_classified(predictions: Predictions, count: int) -> Chosen:
    confident = np.argsort(-predictions.outputs.max(axis=1), kind="stable")
    right = (predictions.predicted == predictions.labels)[confident]
    return _balanced(confident[right], predictions.labels, count), confident[~right][:count]


def _balanced(positions: Array, labels: Array, count: int) -> Array:
    """The first `count` positions, taking turns between the labels."""
    turn = pd.Series(labels[positions]).groupby(labels[positions]).cumcount().to_numpy()
    return positions[np.argsort(turn, kind="stable")][:count]


def _choose_regressed(predictions: Predictions, count: int) -> Chosen:
    order = np.argsort(np.abs(predictions.outputs - predictions.labels), kind="stable")
    half = len(order) // 2
    return order[: len(order) - half][:count], order[::-1][:half][:count]


def _describe_classified(task: TaskConfig, predictions: Predictions) -> pd.DataFrame:
    names, truth = np.array(task.labels, dtype=object), predictions.labels.astype(int)
    likelihood = predictions.outputs[np.arange(len(truth)), truth]
    return pd.DataFrame(
        {
            "label": names[truth],
            "prediction": names[predictions.predicted],
            "confidence": predictions.outputs.max(axis=1).astype(float),
            "loss": -np.log(np.maximum(likelihood.astype(float), 1e-12)),
        }
    )


def _describe_regressed(task: TaskConfig, predictions: Predictions) -> pd.DataFrame:
    labels, predicted = predictions.labels.astype(float), predictions.outputs.astype(float)
    return pd.DataFrame({"label": labels, "prediction": predicted, "error": predicted - labels})


_CHOOSE: dict[Head, Callable[[Predictions, int], Chosen]] = {
    "classification": _choose_classified,
    "regression": _choose_regressed,
}
_DESCRIBE: dict[Head, Callable[[TaskConfig, Predictions], pd.DataFrame]] = {
    "classification": _describe_classified,
    "regression": _describe_regressed,
}


def example_table(task: TaskConfig, predictions: Predictions, count: int) -> pd.DataFrame:
    """At most `count` best rows, then at most `count` worst ones, the most extreme first.

    Columns: `kind` (`best` or `worst`), `id`, `sentence1`, for pairs `sentence2`, `label`, `prediction`. Classification
    adds `confidence` (the prediction's probability) and `loss` (-log probability of the true label, natural logarithm):
    best are the most confident right rows, taking turns between the classes, worst the most confident wrong ones.
    Regression adds `error` (prediction - label): best and worst by its absolute value.
    """
    best, worst = _CHOOSE[task.head](predictions, count)
    texts = ["id", "sentence1", *(["sentence2"] if task.is_pair else [])]
    described = _DESCRIBE[task.head](task, predictions)
    table = pd.concat([predictions.rows[texts].reset_index(drop=True), described], axis=1)
    chosen = table.iloc[np.concatenate([best, worst]).astype(int)].reset_index(drop=True)
    chosen.insert(0, "kind", ["best"] * len(best) + ["worst"] * len(worst))
    return chosen
