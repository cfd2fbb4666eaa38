"""Bootstrap intervals for every metric at once (Efron and Tibshirani 1993, chapter 13: the percentile interval)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from distilspark.config import Head
from distilspark.evaluation.metrics import check_outputs
from distilspark.evaluation.predictions import Array

_BLOCK = 2**21  # weights (resamples x rows) held in memory at a time: 16 MiB


def classification_metrics(counts: Array) -> dict[str, Array]:
    """`compute_metrics` in closed form, from confusion counts (..., true class, predicted class).

    MCC as in Gorodkin (2004), which is Matthews' own formula for two classes.
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
    """`compute_metrics` in closed form, for resamples in which row i occurs `weights[:, i]` times.

    Spearman is that of the resample itself: rows are ranked anew in each resample, ties (and with them the copies of
    one row) share their mean rank.

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
    """The mean in each resample; values are (n,) or (resamples, n)."""
    return (weights * values).sum(axis=1) / weights.sum(axis=1)


def _deviations(weights: Array, values: Array) -> Array:
    """What each value differs from its resample's mean; exactly 0 where the difference is rounding."""
    deviations = values - _mean(weights, values)[:, None]
    return np.where(np.abs(deviations) > 1e-12 * np.abs(values).max(), deviations, 0.0)


def _correlation(weights: Array, x: Array, y: Array) -> Array:
    dx, dy = _deviations(weights, x), _deviations(weights, y)
    return _ratio(_mean(weights, dx * dy), np.sqrt(_mean(weights, dx**2) * _mean(weights, dy**2)))


def _ranks(weights: Array, values: Array) -> Array:
    """The mean rank (1-based) that each row has in each resample: (resamples, n)."""
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    copies = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(copies, axis=1) - (copies - 1) / 2)[:, group]


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, 0 where it is undefined."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)


def _resample_counts(labels: Array, outputs: Array, resamples: int, rng: np.random.Generator) -> dict[str, Array]:
    # Rows drawn with replacement, counted by cell of the confusion matrix, are one multinomial draw over its cells.
    classes = outputs.shape[1]
    cells = np.bincount(labels.astype(int) * classes + outputs.argmax(axis=1), minlength=classes**2)
    counts = rng.multinomial(len(labels), cells / len(labels), size=resamples)
    return classification_metrics(counts.reshape(resamples, classes, classes).astype(float))


def _resample_rows(labels: Array, outputs: Array, resamples: int, rng: np.random.Generator) -> dict[str, Array]:
    blocks = [
        regression_metrics(weights, labels.astype(float), outputs.astype(float))
        for weights in row_weights(len(labels), resamples, rng)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def row_weights(n: int, resamples: int, rng: np.random.Generator) -> Iterator[Array]:
    """How often each of n rows is drawn in each resample of n rows: blocks of (some resamples, n)."""
    block = max(1, _BLOCK // n)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)


_RESAMPLE: dict[Head, Callable[[Array, Array, int, np.random.Generator], dict[str, Array]]] = {
    "classification": _resample_counts,
    "regression": _resample_rows,
}


def bootstrap_intervals(
    head: Head, labels: Array, outputs: Array, *, confidence: float, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """The percentile bootstrap interval (low, high) of every metric of the head, over rows drawn with replacement.

    Raises:
        ValueError: as `compute_metrics`.

    """
    check_outputs(head, labels, outputs)
    replicates = _RESAMPLE[head](labels, outputs, resamples, np.random.default_rng(seed))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = {name: np.quantile(values, tails) for name, values in replicates.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
