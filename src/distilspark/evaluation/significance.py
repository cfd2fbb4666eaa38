"""Whether two models differ by more than chance: the paired bootstrap (Efron and Tibshirani 1993, chapters 13, 15)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from distilspark.config import Head
from distilspark.evaluation.intervals import classification_metrics, regression_metrics, row_weights
from distilspark.evaluation.metrics import METRICS, check_outputs
from distilspark.evaluation.predictions import Array


@dataclass(frozen=True)
class Difference:
    """A difference with its percentile interval, and the two-sided p-value of there being none."""

    value: float
    low: float
    high: float
    p_value: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Score:
    """The mean of a metric over seeds with its percentile interval, and the seeds' own scores."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]

    @property
    def deviation(self) -> float:
        """The sample standard deviation over the seeds; NaN where there is one."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else float("nan")


def _score_classes(labels: Array, models: Sequence[Array], weights: Array) -> dict[str, Array]:
    classes = models[0].shape[1]
    cells = np.stack([labels.astype(int) * classes + outputs.argmax(axis=1) for outputs in models])
    counts = [weights @ np.eye(classes**2)[cell] for cell in cells]
    return classification_metrics(np.reshape(counts, (len(models), len(weights), classes, classes)))


def _score_values(labels: Array, models: Sequence[Array], weights: Array) -> dict[str, Array]:
    truth = labels.astype(float)
    scored = [regression_metrics(weights, truth, outputs.astype(float)) for outputs in models]
    return {metric: np.stack([scores[metric] for scores in scored]) for metric in scored[0]}


# Every metric of every model in every resample: (models, resamples).
_SCORE: dict[Head, Callable[[Array, Sequence[Array], Array], dict[str, Array]]] = {
    "classification": _score_classes,
    "regression": _score_values,
}


def _seed_weights(seeds: int, resamples: int, rng: np.random.Generator) -> Array:
    """What each seed counts in each resample, (seeds, resamples), columns summing to 1.

    One seed less is drawn than there are: with all of them, two or three seeds would seem to vary by a half or a third
    too little (Rao and Wu 1988). Rows count in the spread between seeds once more: this errs on the careful side.
    """
    if seeds == 1:
        return np.ones((1, resamples))
    return rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=resamples).T / (seeds - 1)


def _check_models(head: Head, metric: str, labels: Array, models: Sequence[Array]) -> None:
    if metric not in METRICS[head]:
        raise ValueError(f"{head} has no metric {metric!r}; it has {', '.join(METRICS[head])}")
    for outputs in models:
        check_outputs(head, labels, outputs)
    if len({outputs.shape for outputs in models}) > 1:
        raise ValueError(f"the models differ in their outputs: {[outputs.shape for outputs in models]}")


def paired_difference(
    head: Head,
    metric: str,
    labels: Array,
    first: Sequence[Array],
    second: Sequence[Array],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference:
    """How much higher `second` scores than `first` on the same rows (`LOWER_IS_BETTER` says which way is better).

    Each side is one model's outputs for each of its seeds, and scores their mean. All models are resampled with the
    same rows, so that what is hard for all of them cancels. Where a side has two seeds or more, they are resampled too:
    the interval then speaks of a new training on new rows. Sides of equal length are paired, seed by seed.

    Raises:
        ValueError: a side without outputs, an unknown metric, outputs of different shapes; else as `compute_metrics`.

    """
    if not first or not second:
        raise ValueError(f"each side takes one model or more: {len(first)=}, {len(second)=}")
    models = [*first, *second]
    _check_models(head, metric, labels, models)
    rng = np.random.default_rng(seed)
    score = partial(_SCORE[head], labels, models)
    blocks = [score(weights)[metric] for weights in row_weights(len(labels), resamples, rng)]
    replicates = np.concatenate(blocks, axis=1)
    ours = _seed_weights(len(first), resamples, rng)
    theirs = ours if len(second) == len(first) else _seed_weights(len(second), resamples, rng)
    differences = _difference(replicates, ours, theirs)
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    scores = score(np.ones((1, len(labels))))[metric]
    value = _difference(scores, np.full((len(first), 1), 1 / len(first)), np.full((len(second), 1), 1 / len(second)))
    return Difference(value.item(), float(low), float(high), _two_sided(differences))


def mean_scores(
    head: Head, labels: Array, models: Sequence[Array], *, confidence: float, resamples: int, seed: int
) -> dict[str, Score]:
    """Every metric of one model, whose outputs for each of its seeds are given; resampled as in `paired_difference`.

    Raises:
        ValueError: no outputs, or outputs of different shapes; else as `compute_metrics`.

    """
    if not models:
        raise ValueError("no outputs to score")
    _check_models(head, METRICS[head][0], labels, models)
    rng = np.random.default_rng(seed)
    score = partial(_SCORE[head], labels, models)
    blocks = [score(weights) for weights in row_weights(len(labels), resamples, rng)]
    drawn = _seed_weights(len(models), resamples, rng)
    whole = score(np.ones((1, len(labels))))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    found = {}
    for metric in METRICS[head]:
        means = (np.concatenate([block[metric] for block in blocks], axis=1) * drawn).sum(axis=0)
        low, high = np.quantile(means, tails)
        seeds = tuple(whole[metric][:, 0].tolist())
        found[metric] = Score(float(np.mean(seeds)), float(low), float(high), seeds)
    return found


def _difference(scores: Array, ours: Array, theirs: Array) -> Array:
    """The weighted mean of the second side's scores minus that of the first's; (models, resamples) scores."""
    first, second = scores[: len(ours)], scores[len(ours) :]
    return (second * theirs).sum(axis=0) - (first * ours).sum(axis=0)


def _two_sided(differences: Array) -> float:
    """Twice the share of resamples beyond zero; the one that we saw counts, so that it is never 0."""
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (beyond + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for there being several (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()
