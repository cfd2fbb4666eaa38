"""The bootstrap: intervals of a model's metrics and of the difference between two models.

Efron and Tibshirani (1993), chapters 13 and 15: percentile intervals over rows that are drawn with replacement. The
draws depend on the rows' labels and predictions, the seed and the number of resamples, not on the order of the rows, so
a model has the same intervals wherever they are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from distilspark.config import EvaluationConfig
from distilspark.evaluation.predictions import Array
from distilspark.heads import Head

_BLOCK = 2**21  # weights (resamples x rows) held in memory at a time: 16 MiB


@dataclass(frozen=True)
class Difference:
    """A difference with its percentile interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p_value: float

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds."""
        return self.low, self.high

    @property
    def is_clear(self) -> bool:
        """True if the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Score:
    """The mean of a metric over seeds with its percentile interval, and the seeds' own scores."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds."""
        return self.low, self.high

    @property
    def deviation(self) -> float:
        """The sample standard deviation over the seeds; NaN for a single seed."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else float("nan")


def mean_scores(head: Head, labels: Array, models: Sequence[Array], config: EvaluationConfig) -> dict[str, Score]:
    """Score one model, given its outputs for each seed, in every metric of the head.

    With one seed the intervals hold for this training on new rows. Several seeds are resampled too, as in
    `paired_difference`.

    Raises:
        ValueError: no outputs, or outputs of different shapes; else as `Head.compute_metrics`.

    """
    _check_models(head, labels, models)
    rng = np.random.default_rng(config.seed)
    replicates = _resample(head, labels, models, config.resamples, rng)
    drawn = _seed_weights(len(models), config.resamples, rng)
    whole = [head.compute_metrics(labels, outputs) for outputs in models]
    scores = {}
    for metric in head.metrics:
        low, high = _percentiles((replicates[metric] * drawn).sum(axis=0), config.confidence)
        seeds = tuple(each[metric] for each in whole)
        scores[metric] = Score(float(np.mean(seeds)), low, high, seeds)
    return scores


def paired_difference(
    head: Head, metric: str, labels: Array, first: Sequence[Array], second: Sequence[Array], config: EvaluationConfig
) -> Difference:
    """Measure how much higher `second` scores than `first` on the same rows (`Metric.gain`: how much better).

    Each side is one model's outputs for each of its seeds; its score is their mean. All models are resampled with the
    same rows, so that rows that are hard for all of them cancel. If a side has two seeds or more, they are resampled
    too: the interval then holds for a new training on new rows. Sides of equal length are paired, seed by seed.

    Raises:
        ValueError: a side without outputs, an unknown metric; else as `mean_scores`.

    """
    if metric not in head.metrics:
        raise ValueError(f"{head.name} has no metric {metric!r}; it has {', '.join(head.metrics)}")
    if not first or not second:
        raise ValueError(f"each side takes one model or more: {len(first)=}, {len(second)=}")
    models = [*first, *second]
    _check_models(head, labels, models)
    rng = np.random.default_rng(config.seed)
    replicates = _resample(head, labels, models, config.resamples, rng)[metric]
    ours = _seed_weights(len(first), config.resamples, rng)
    theirs = ours if len(second) == len(first) else _seed_weights(len(second), config.resamples, rng)
    differences = (replicates[len(first) :] * theirs).sum(axis=0) - (replicates[: len(first)] * ours).sum(axis=0)
    scores = [head.compute_metrics(labels, outputs)[metric] for outputs in models]
    value = float(np.mean(scores[len(first) :]) - np.mean(scores[: len(first)]))
    return Difference(value, *_percentiles(differences, config.confidence), _two_sided(differences))


def _check_models(head: Head, labels: Array, models: Sequence[Array]) -> None:
    if not models:
        raise ValueError("no outputs to score")
    for outputs in models:
        head.check_outputs(labels, outputs)
    if len({outputs.shape for outputs in models}) > 1:
        raise ValueError(f"the models differ in their outputs: {[outputs.shape for outputs in models]}")


def _resample(
    head: Head, labels: Array, models: Sequence[Array], resamples: int, rng: np.random.Generator
) -> dict[str, Array]:
    """Compute every metric of every model in every resample: (models, resamples).

    Rows with the same label and predictions are merged and counted. A multinomial draw over these distinct rows is
    equivalent to drawing rows with replacement.
    """
    columns = np.column_stack([labels, *map(head.predicted, models)])
    _, places, counts = np.unique(columns, axis=0, return_index=True, return_counts=True)  # in sorted order
    distinct = [outputs[places] for outputs in models]
    blocks = [head.weighted_metrics(labels[places], distinct, weights) for weights in _draw(counts, resamples, rng)]
    return {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}


def _draw(counts: Array, resamples: int, rng: np.random.Generator) -> Iterator[Array]:
    """Draw the count of each distinct row in each resample: blocks of (some resamples, distinct rows)."""
    total = counts.sum()
    block = max(1, _BLOCK // len(counts))
    for start in range(0, resamples, block):
        yield rng.multinomial(total, counts / total, size=min(block, resamples - start)).astype(float)


def _seed_weights(seeds: int, resamples: int, rng: np.random.Generator) -> Array:
    """Draw the weight of each seed in each resample, (seeds, resamples); columns sum to 1.

    One seed less is drawn than there are; else the variance between two or three seeds would be a half or a third too
    small (Rao and Wu 1988). The spread between seeds also contains that of rows: this is conservative.
    """
    if seeds == 1:
        return np.ones((1, resamples))
    return rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=resamples).T / (seeds - 1)


def _percentiles(values: Array, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _two_sided(differences: Array) -> float:
    """Return twice the share of resamples beyond zero; the observed one is counted, so that it is never 0."""
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (beyond + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons (Holm 1979), in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()
