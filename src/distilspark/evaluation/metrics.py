"""The metrics of both heads, from scikit-learn and SciPy, and what a model without any skill would score."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

from distilspark.config import Head
from distilspark.evaluation.predictions import Array

METRICS: dict[Head, tuple[str, ...]] = {
    "classification": ("accuracy", "precision", "recall", "f1", "mcc"),
    "regression": ("pearson", "spearman", "mse", "mae", "r2"),
}
LOWER_IS_BETTER = frozenset({"mse", "mae"})
BASELINES: dict[Head, str] = {"classification": "majority class", "regression": "mean training label"}
_DIMENSIONS: dict[Head, int] = {"classification": 2, "regression": 1}


def check_outputs(head: Head, labels: Array, outputs: Array) -> None:
    """Raise ValueError where metrics would mean nothing: no rows, wrong shapes, values not finite, unknown labels."""
    if outputs.ndim != _DIMENSIONS[head] or labels.shape != outputs.shape[:1]:
        raise ValueError(f"{head} takes outputs of {_DIMENSIONS[head]} dimensions: {labels.shape=}, {outputs.shape=}")
    if len(labels) == 0:
        raise ValueError("no rows to evaluate")
    bad = ~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1) | ~np.isfinite(labels)
    if bad.any():
        raise ValueError(
            f"{bad.sum()} of {len(bad)} rows have NaN or infinite outputs or labels, first: {bad.argmax()}"
        )
    if outputs.ndim == 2 and not np.isin(labels, np.arange(outputs.shape[1])).all():
        raise ValueError(f"labels are not ids from 0 to {outputs.shape[1] - 1}: {np.unique(labels)}")


def baseline_outputs(head: Head, training_labels: Array, n: int, classes: int) -> Array:
    """What a model says for n rows that knows the training labels and never reads the text.

    Classification: (n, classes), the labels' frequencies in training, so that argmax is the majority class;
    regression: (n,), the mean training label (`classes` is not read).
    """
    return _BASELINE_OUTPUTS[head](np.asarray(training_labels, dtype=float), n, classes)


def _frequencies(labels: Array, n: int, classes: int) -> Array:
    counts = np.bincount(labels.astype(int), minlength=classes)
    return np.tile(counts / counts.sum(), (n, 1))


def _mean(labels: Array, n: int, classes: int) -> Array:
    return np.full(n, labels.mean())


def _classification(labels: Array, outputs: Array, rows: Array | None) -> dict[str, float]:
    truth, predicted = labels.astype(int), outputs.argmax(axis=1)
    scored = [1] if outputs.shape[1] == 2 else None
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        truth, predicted, labels=scored, average="macro", zero_division=0, sample_weight=rows
    )
    every = list(range(outputs.shape[1]))
    counts = sklearn_metrics.confusion_matrix(truth, predicted, labels=every, sample_weight=rows)
    scores = {
        "accuracy": sklearn_metrics.accuracy_score(truth, predicted, sample_weight=rows),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        # With one label only, scikit-learn warns; MCC is 0 then by its own convention.
        "mcc": sklearn_metrics.matthews_corrcoef(truth, predicted, sample_weight=rows)
        if np.count_nonzero(counts) > 1
        else 0.0,
    }
    return {name: float(score) for name, score in scores.items()}


def _regression(labels: Array, outputs: Array, rows: Array | None) -> dict[str, float]:
    truth, predicted = (np.repeat(each.astype(float), 1 if rows is None else rows) for each in (labels, outputs))
    return {
        "pearson": _correlation(stats.pearsonr, truth, predicted),
        "spearman": _correlation(stats.spearmanr, truth, predicted),
        "mse": float(sklearn_metrics.mean_squared_error(truth, predicted)),
        "mae": float(sklearn_metrics.mean_absolute_error(truth, predicted)),
        "r2": float(sklearn_metrics.r2_score(truth, predicted)) if np.ptp(truth) > 0 else 0.0,
    }


def _correlation(measure: Callable[..., Any], x: Array, y: Array) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(np.nan_to_num(measure(x, y).statistic))


_BASELINE_OUTPUTS: dict[Head, Callable[[Array, int, int], Array]] = {
    "classification": _frequencies,
    "regression": _mean,
}
_COMPUTE: dict[Head, Callable[[Array, Array, Array | None], dict[str, float]]] = {
    "classification": _classification,
    "regression": _regression,
}


def compute_metrics(head: Head, labels: Array, outputs: Array, rows: Array | None = None) -> dict[str, float]:
    """Compute every metric of the head (`METRICS`) from labels (n,) and outputs as in `Predictions`.

    `rows` (n,) counts the rows that each label and output stand for; one each without.

    Precision, recall and F1 are those of label 1 where there are two classes, else the mean over the classes that
    occur in labels or predictions (macro). What is undefined is 0: precision without predictions of the class, MCC
    with a single label or prediction, correlations with constant values, R² with constant labels.

    Raises:
        ValueError: no rows, wrong shapes, NaN or infinite values, label ids that are not classes.

    """
    check_outputs(head, labels, outputs)
    return _COMPUTE[head](labels, outputs, rows)
