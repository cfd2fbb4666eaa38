"""The metrics: names, directions, and closed forms over weighted rows.

A resample of the bootstrap is the same rows with other weights, so one formula gives a metric and all its resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Metric:
    """A metric, and everything that depends on its direction."""

    name: str  # in configs, MLflow and tables
    title: str  # for display
    higher_is_better: bool = True

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1: `sign * value` grows as a model improves."""
        return 1 if self.higher_is_better else -1

    @property
    def mode(self) -> str:
        """`max` or `min`, in Keras's words."""
        return "max" if self.higher_is_better else "min"

    @property
    def direction(self) -> str:
        """`higher is better` or `lower is better`."""
        return f"{'higher' if self.higher_is_better else 'lower'} is better"

    def better(self, value: float, other: float) -> bool:
        """Return whether `value` is strictly better than `other`."""
        return self.sign * value > self.sign * other

    def best(self, items: Iterable[T], value_of: Callable[[T], float]) -> T:
        """Return the item with the best value; of several, the first."""
        return max(items, key=lambda item: self.sign * value_of(item))

    def gain(self, difference: tuple[float, float]) -> tuple[float, float]:
        """Convert the interval of a difference to that of an improvement, which is positive for the better.

        >>> METRICS["mcc"].gain((-0.1, 0.2)), METRICS["mse"].gain((-0.1, 0.2))
        ((-0.1, 0.2), (-0.2, 0.1))
        """
        low, high = sorted(self.sign * bound for bound in difference)
        return low, high

    def surely_better(self, interval: tuple[float, float], value: float) -> bool:
        """Return whether the whole interval is better than the value."""
        return all(self.better(bound, value) for bound in interval)

    def axis(self, values: Iterable[float]) -> tuple[float, float]:
        """Return the limits of an axis that shows the values: of a score up to 1, of an error from 0.

        R² has no lower bound: the axis of a score is cut at -1.
        """
        reached = [0.0, *values]
        return (max(-1, 1.05 * min(reached)), 1) if self.higher_is_better else (0, 1.05 * max(reached) or 1)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy"),
        Metric("precision", "Precision"),
        Metric("recall", "Recall"),
        Metric("f1", "F1"),
        Metric("mcc", "MCC"),
        Metric("pearson", "Pearson"),
        Metric("spearman", "Spearman"),
        Metric("mse", "MSE", higher_is_better=False),
        Metric("mae", "MAE", higher_is_better=False),
        Metric("r2", "R²"),
    )
}


def classification_metrics(counts: Array) -> dict[str, Array]:
    """Compute accuracy, precision, recall, F1 and MCC from confusion counts (..., true class, predicted class).

    Precision, recall and F1 are those of label 1 if there are two classes, else the mean over the classes that
    occur in labels or predictions (macro). MCC as in Gorodkin (2004), which is Matthews' own formula for two classes.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    rows = true.sum(axis=-1)
    covariance = hits.sum(axis=-1) * rows - (true * predicted).sum(axis=-1)
    spread = (rows**2 - (true**2).sum(axis=-1)) * (rows**2 - (predicted**2).sum(axis=-1))
    occurs = (true + predicted) > 0
    return {
        "accuracy": hits.sum(axis=-1) / rows,
        "precision": _over_classes(_ratio(hits, predicted), occurs),
        "recall": _over_classes(_ratio(hits, true), occurs),
        "f1": _over_classes(_ratio(2 * hits, true + predicted), occurs),
        "mcc": _ratio(covariance, np.sqrt(spread)),
    }


def _over_classes(scores: Array, occurs: Array) -> Array:
    if scores.shape[-1] == 2:
        return scores[..., 1]
    return (scores * occurs).sum(axis=-1) / occurs.sum(axis=-1)


def regression_metrics(weights: Array, labels: Array, predicted: Array) -> dict[str, Array]:
    """Compute Pearson, Spearman, MSE, MAE and R² of resamples in which row i occurs `weights[:, i]` times.

    For Spearman, rows are ranked again in each resample; ties (including the copies of one row) share their mean rank.

    Args:
        weights: (resamples, n) whole numbers as floats; every row sums to the same total.
        labels: (n,) true values.
        predicted: (n,) predicted values.

    """
    errors = predicted - labels
    mse = _mean(weights, errors**2)
    variance = _mean(weights, _deviations(weights, labels) ** 2)
    return {
        "pearson": _correlation(weights, labels, predicted),
        "spearman": _correlation(weights, _ranks(weights, labels), _ranks(weights, predicted)),
        "mse": mse,
        "mae": _mean(weights, np.abs(errors)),
        "r2": np.where(variance > 0, 1 - _ratio(mse, variance), 0.0),
    }


def _mean(weights: Array, values: Array) -> Array:
    """Return the mean in each resample; values are (n,) or (resamples, n)."""
    return (weights * values).sum(axis=1) / weights.sum(axis=1)


def _deviations(weights: Array, values: Array) -> Array:
    """Return each value's deviation from its resample's mean; exactly 0 if it is only rounding."""
    deviations = values - _mean(weights, values)[:, None]
    return np.where(np.abs(deviations) > 1e-12 * np.abs(values).max(), deviations, 0.0)


def _correlation(weights: Array, x: Array, y: Array) -> Array:
    dx, dy = _deviations(weights, x), _deviations(weights, y)
    return _ratio(_mean(weights, dx * dy), np.sqrt(_mean(weights, dx**2) * _mean(weights, dy**2)))


def _ranks(weights: Array, values: Array) -> Array:
    """Return the mean rank (from 1) of each row in each resample: (resamples, n)."""
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    copies = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(copies, axis=1) - (copies - 1) / 2)[:, group]


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Return the quotient, 0 where it is undefined."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)
