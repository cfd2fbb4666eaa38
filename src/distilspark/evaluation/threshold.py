"""The choice of the probability above which label 1 is predicted."""

from __future__ import annotations

import numpy as np

from distilspark.config import DEFAULT_THRESHOLD
from distilspark.evaluation.predictions import Array
from distilspark.metrics import Metric, classification_metrics

ROUNDING = 1e-12


def tune_threshold(labels: Array, probabilities: Array, metric: Metric) -> float:
    """Choose the threshold with the best metric on these rows; of several such, the closest to .5.

    Args:
        labels: (n,), 0 or 1.
        probabilities: (n,), those of label 1, which is predicted if its probability is above the threshold.
        metric: any of classification's.

    Returns:
        .5, or the midpoint of two neighbouring probabilities, including 0 and 1.

    >>> from distilspark.metrics import METRICS
    >>> tune_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4]), METRICS["mcc"])
    0.25

    """
    distinct = np.unique([0.0, *probabilities.astype(float), 1.0])
    candidates = np.append((distinct[1:] + distinct[:-1]) / 2, DEFAULT_THRESHOLD)
    scores = metric.sign * classification_metrics(_counts(labels, probabilities, candidates))[metric.name]
    best = candidates[scores >= scores.max() - ROUNDING]
    return float(best[np.abs(best - DEFAULT_THRESHOLD).argmin()])


def _counts(labels: Array, probabilities: Array, thresholds: Array) -> Array:
    """Count (thresholds, true class, predicted class)."""
    below = [np.searchsorted(np.sort(probabilities[labels == label]), thresholds, side="right") for label in (0, 1)]
    sizes = [np.count_nonzero(labels == label) for label in (0, 1)]
    rows = [np.stack([under, size - under], axis=-1) for under, size in zip(below, sizes, strict=True)]
    return np.stack(rows, axis=-2).astype(float)
