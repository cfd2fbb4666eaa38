"""Paired differences: agreement with SciPy's bootstrap, false positive rates, identical models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from distilspark.config import EvaluationConfig
from distilspark.evaluation.bootstrap import Difference, holm, mean_scores, paired_difference
from distilspark.evaluation.predictions import Predictions
from distilspark.heads import CLASSIFICATION, HEADS, REGRESSION
from helpers.reference_metrics import reference_metrics

Builder = Callable[..., Predictions]
SETTINGS = EvaluationConfig(confidence=0.95, resamples=2000, seed=1, examples=5)


def noisy_values(predictions: Predictions, seed: int, noise: float) -> np.ndarray:
    """Return a regressor's outputs with added noise."""
    return predictions.outputs + np.random.default_rng(seed).normal(0, noise, len(predictions.labels))


def noisy_classes(predictions: Predictions, seed: int, noise: float) -> np.ndarray:
    scores = np.log(predictions.outputs) + np.random.default_rng(seed).normal(0, noise, predictions.outputs.shape)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3])
def test_paired_difference_of_classifiers_agrees_with_scipy(classified: Builder, classes: int) -> None:
    predictions = classified(300, classes)
    other = noisy_classes(predictions, 1, 1.0)

    def difference(labels: np.ndarray, first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return (second == labels).mean(axis=axis) - (first == labels).mean(axis=axis)

    columns = (predictions.labels, predictions.predicted, other.argmax(axis=1))
    theirs = stats.bootstrap(
        columns, difference, paired=True, vectorized=True, method="percentile", n_resamples=2000, rng=2
    )
    ours = paired_difference(CLASSIFICATION, "accuracy", predictions.labels, [predictions.outputs], [other], SETTINGS)
    assert ours.value == pytest.approx(difference(*columns, axis=0), abs=1e-12)
    check_interval(ours, theirs)
    assert ours.value < 0  # noise makes the second model worse


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_paired_difference_of_regressors_agrees_with_scipy(regressed: Builder, metric: str) -> None:
    predictions = regressed(250)
    other = noisy_values(predictions, 1, 0.5)

    def difference(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
        correlation = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[metric]
        return correlation(labels, second).statistic - correlation(labels, first).statistic

    columns = (predictions.labels, predictions.outputs, other)
    theirs = stats.bootstrap(
        columns, difference, paired=True, vectorized=False, method="percentile", n_resamples=1500, rng=2
    )
    ours = paired_difference(REGRESSION, metric, predictions.labels, [predictions.outputs], [other], SETTINGS)
    assert ours.value == pytest.approx(difference(*columns), abs=1e-6)
    check_interval(ours, theirs)


def check_interval(ours: Difference, theirs: object) -> None:
    interval = theirs.confidence_interval
    width = interval.high - interval.low
    assert (ours.low, ours.high) == pytest.approx(tuple(interval), abs=0.1 * width)
    share = (theirs.bootstrap_distribution >= 0).mean()
    assert ours.p_value == pytest.approx(2 * min(share, 1 - share), abs=0.05)


def test_difference_of_every_metric_is_second_minus_first(classified: Builder, regressed: Builder) -> None:
    """Of means over seeds, for both heads, regardless of whether a higher metric is better."""
    for head, predictions, noisy in (
        ("classification", classified(200), noisy_classes),
        ("regression", regressed(200), noisy_values),
    ):
        labels = predictions.labels
        first = [noisy(predictions, seed, 0.2) for seed in (1, 2, 3)]
        second = [noisy(predictions, seed, 2.0) for seed in (4, 5)]
        scores = [[reference_metrics(labels, outputs) for outputs in side] for side in (first, second)]
        for metric in HEADS[head].metrics:
            mean_first, mean_second = (np.mean([score[metric] for score in side]) for side in scores)
            found = paired_difference(HEADS[head], metric, labels, first, second, SETTINGS)
            assert found.value == pytest.approx(mean_second - mean_first, abs=1e-6)
            assert found.low < found.value < found.high
    assert paired_difference(REGRESSION, "mse", labels, first, second, SETTINGS).low > 0
    assert paired_difference(REGRESSION, "pearson", labels, first, second, SETTINGS).high < 0


def test_identical_models_do_not_differ(classified: Builder, regressed: Builder) -> None:
    for head, predictions, noisy in (
        ("classification", classified(100, 3), noisy_classes),
        ("regression", regressed(100), noisy_values),
    ):
        seeds = [predictions.outputs, noisy(predictions, 1, 0.7), noisy(predictions, 2, 0.7)]
        for side in (seeds[:1], seeds):
            for metric in HEADS[head].metrics:
                found = paired_difference(HEADS[head], metric, predictions.labels, side, list(side), SETTINGS)
                assert found == Difference(0.0, 0.0, 0.0, 1.0)
                assert not found.is_clear


def test_difference_is_paired_by_rows(classified: Builder) -> None:
    """If models disagree on few rows, the interval is only as wide as those rows make it."""
    predictions = classified(1000)
    changed = predictions.outputs.copy()
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)[:12]
    changed[wrong] = changed[wrong, ::-1]
    found = paired_difference(
        CLASSIFICATION, "accuracy", predictions.labels, [predictions.outputs], [changed], SETTINGS
    )
    assert found.value == pytest.approx(0.012)
    assert 0.004 < found.low < found.high < 0.021
    assert found.p_value < 0.01
    assert found.is_clear


def test_difference_is_paired_by_seeds(classified: Builder) -> None:
    """A small gain in every seed is significant despite a large spread between seeds, but only paired."""
    predictions = classified(800)
    first = [noisy_classes(predictions, seed, noise) for seed, noise in ((1, 0.1), (2, 1.0), (3, 2.0))]
    second = [sharpened(predictions, outputs) for outputs in first]
    settings = {"head": CLASSIFICATION, "metric": "mcc", "labels": predictions.labels, "config": SETTINGS}
    paired = paired_difference(first=first, second=second, **settings)
    crossed = paired_difference(first=first, second=second[::-1], **settings)
    assert paired.value == pytest.approx(crossed.value, abs=1e-12)
    assert paired.is_clear
    assert not crossed.is_clear


def sharpened(predictions: Predictions, outputs: np.ndarray) -> np.ndarray:
    """Return the outputs with 25 errors corrected."""
    better = outputs.copy()
    wrong = np.flatnonzero(outputs.argmax(axis=1) != predictions.labels)[:25]
    better[wrong] = better[wrong, ::-1]
    return better


def correct_with(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return outputs for rows of label 1, each correct with the row's probability."""
    return np.eye(2)[(rng.random(len(chance)) < chance).astype(int)]


def test_false_positive_rate_of_equal_models_is_about_five_percent() -> None:
    """400 pairs of equally good models on 150 easy and hard rows: 5 % of 95 % intervals exclude zero."""
    rng = np.random.default_rng(7)
    clear, p_values = 0, []
    for sample in range(400):
        chance = rng.choice([0.5, 0.95], 150)
        models = [correct_with(chance, rng) for _ in range(2)]
        found = paired_difference(
            CLASSIFICATION,
            "accuracy",
            np.ones(150),
            models[:1],
            models[1:],
            replace(SETTINGS, resamples=400, seed=sample),
        )
        clear += found.is_clear
        p_values.append(found.p_value)
    assert 0.02 <= clear / 400 <= 0.085
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.085
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.1)


def test_intervals_over_three_seeds_cover_the_true_difference() -> None:
    """300 pairs of three seeds; skill varies between seeds, and the second side is better by .05."""
    rng = np.random.default_rng(8)
    held = {1: 0, 3: 0}
    for sample in range(300):
        first, second = (
            [correct_with(np.full(400, skill), rng) for skill in rng.normal(mean, 0.03, 3)] for mean in (0.7, 0.75)
        )
        for seeds in held:
            found = paired_difference(
                CLASSIFICATION,
                "accuracy",
                np.ones(400),
                first[:seeds],
                second[:seeds],
                replace(SETTINGS, resamples=300, seed=sample),
            )
            held[seeds] += found.low <= 0.05 <= found.high
    assert held[3] / 300 >= 0.9
    assert held[1] / 300 < held[3] / 300  # one seed does not show the spread between seeds


def test_difference_is_reproducible_and_its_interval_grows_with_confidence(regressed: Builder) -> None:
    predictions = regressed(100)
    sides = [predictions.outputs], [noisy_values(predictions, 1, 0.3)]
    found = paired_difference(REGRESSION, "mae", predictions.labels, *sides, SETTINGS)
    assert found == paired_difference(REGRESSION, "mae", predictions.labels, *sides, SETTINGS)
    narrow = paired_difference(REGRESSION, "mae", predictions.labels, *sides, replace(SETTINGS, confidence=0.5))
    assert found.low < narrow.low < found.value < narrow.high < found.high
    assert (narrow.value, narrow.p_value) == (found.value, found.p_value)


def test_outputs_that_cannot_be_compared_are_refused(classified: Builder, regressed: Builder) -> None:
    predictions, values = classified(20), regressed(20)
    outputs, labels = predictions.outputs, predictions.labels
    three = classified(20, 3).outputs
    for metric, first, second, message in (
        ("mcc", [], [outputs], "one model or more"),
        ("pearson", [outputs], [outputs], "no metric 'pearson'; it has accuracy"),
        ("mcc", [outputs], [outputs[:10]], "dimensions"),
        ("mcc", [outputs], [values.outputs], "dimensions"),
        ("mcc", [outputs], [three], "differ in their outputs"),
        ("mcc", [outputs], [np.full_like(outputs, np.nan)], "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            paired_difference(CLASSIFICATION, metric, labels, first, second, SETTINGS)


def test_mean_scores_are_the_mean_over_seeds_with_an_interval(classified: Builder, regressed: Builder) -> None:
    for head, predictions, noisy in (
        ("classification", classified(200), noisy_classes),
        ("regression", regressed(200), noisy_values),
    ):
        labels = predictions.labels
        seeds = [noisy(predictions, seed, noise) for seed, noise in ((1, 0.1), (2, 1.0), (3, 2.0))]
        scores = mean_scores(HEADS[head], labels, seeds, SETTINGS)
        expected = [reference_metrics(labels, outputs) for outputs in seeds]
        assert tuple(scores) == HEADS[head].metrics
        for metric, score in scores.items():
            assert score.seeds == pytest.approx([each[metric] for each in expected], abs=1e-6)
            assert score.mean == pytest.approx(np.mean(score.seeds))
            assert score.deviation == pytest.approx(stats.tstd(score.seeds))
            assert score.low < score.mean < score.high
        one = mean_scores(HEADS[head], labels, seeds[:1], SETTINGS)
        for metric, (low, high) in {name: score.interval for name, score in one.items()}.items():
            assert np.isnan(one[metric].deviation)
            assert scores[metric].high - scores[metric].low > high - low  # seeds vary too
        with pytest.raises(ValueError, match="no outputs"):
            mean_scores(HEADS[head], labels, [], SETTINGS)


def test_holm_adjusts_p_values_in_their_order() -> None:
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.001, 0.02]) == pytest.approx([0.9, 0.003, 0.04])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
