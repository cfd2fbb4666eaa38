"""Reference metrics from scikit-learn and SciPy, independent of the project's closed forms."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics


def reference_metrics(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Return every metric: classification for outputs (n, classes), regression for outputs (n,)."""
    return _of_classes(labels.astype(int), outputs) if outputs.ndim == 2 else _of_values(labels, outputs)


def _of_classes(truth: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    predicted, classes = outputs.argmax(axis=1), range(outputs.shape[1])
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=[1] if len(classes) == 2 else None, average="macro", zero_division=0
    )
    counts = metrics.confusion_matrix(truth, predicted, labels=classes)
    return {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        # With only one label scikit-learn warns and returns an MCC of 0.
        "mcc": metrics.matthews_corrcoef(truth, predicted) if np.count_nonzero(counts) > 1 else 0.0,
    }


def _of_values(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    truth, predicted = labels.astype(float), outputs.astype(float)
    return {
        "pearson": _correlation(stats.pearsonr, truth, predicted),
        "spearman": _correlation(stats.spearmanr, truth, predicted),
        "mse": metrics.mean_squared_error(truth, predicted),
        "mae": metrics.mean_absolute_error(truth, predicted),
        "r2": metrics.r2_score(truth, predicted) if np.ptp(truth) > 0 else 0.0,
    }


def _correlation(measure: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(np.nan_to_num(measure(x, y).statistic))
