"""Bootstrap intervals: closed forms, agreement with SciPy, and coverage of the true value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix

from distilspark.config import EvaluationConfig
from distilspark.evaluation.bootstrap import _draw, mean_scores
from distilspark.evaluation.predictions import Predictions
from distilspark.heads import CLASSIFICATION, HEADS, REGRESSION, Head
from distilspark.metrics import classification_metrics, regression_metrics
from helpers.reference_metrics import reference_metrics

Builder = Callable[..., Predictions]
SETTINGS = EvaluationConfig(confidence=0.95, resamples=2000, seed=1, examples=5)


def intervals_of(
    head: Head, labels: np.ndarray, outputs: np.ndarray, config: EvaluationConfig = SETTINGS
) -> dict[str, tuple[float, float]]:
    """Return the intervals of one training."""
    return {name: score.interval for name, score in mean_scores(head, labels, [outputs], config).items()}


def drawn_rows(n: int, resamples: int) -> np.ndarray:
    return np.random.default_rng(3).integers(n, size=(resamples, n))


@pytest.mark.parametrize("n", [3, 9, 300])
@pytest.mark.parametrize("classes", [2, 3])
def test_closed_forms_of_classification_equal_the_reference_metrics(classified: Builder, n: int, classes: int) -> None:
    predictions = classified(n, classes)
    for rows in drawn_rows(n, 50):
        labels, outputs = predictions.labels[rows], predictions.outputs[rows]
        counts = confusion_matrix(labels.astype(int), outputs.argmax(axis=1), labels=range(classes))
        closed = {name: float(value) for name, value in classification_metrics(counts.astype(float)).items()}
        assert closed == pytest.approx(reference_metrics(labels, outputs), abs=1e-12)


@pytest.mark.parametrize("n", [2, 7, 300])
def test_closed_forms_of_regression_equal_the_reference_metrics(regressed: Builder, n: int) -> None:
    """Resamples have copies of rows, tied labels and, with two rows, a single value."""
    predictions = regressed(n)
    rows = drawn_rows(n, 50)
    weights = np.stack([np.bincount(row, minlength=n) for row in rows]).astype(float)
    closed = regression_metrics(weights, predictions.labels, predictions.outputs.astype(float))
    for position, row in enumerate(rows):
        expected = reference_metrics(predictions.labels[row], predictions.outputs[row])
        assert {name: values[position] for name, values in closed.items()} == pytest.approx(expected, abs=1e-9)


def test_constant_labels_have_zero_correlation_and_r2() -> None:
    weights = np.stack([np.bincount(row, minlength=7) for row in drawn_rows(7, 20)]).astype(float)
    closed = regression_metrics(weights, np.full(7, 0.1), np.linspace(0.0, 1.0, 7))
    assert not np.any([closed[name] for name in ("pearson", "spearman", "r2")])


def test_resampling_weights_sum_to_the_row_count_in_every_block() -> None:
    blocks = list(_draw(np.ones(1_000_000, int), 3, np.random.default_rng(0)))
    assert [block.shape for block in blocks] == [(2, 1_000_000), (1, 1_000_000)]
    assert all((block.sum(axis=1) == 1_000_000).all() for block in blocks)


def test_bounds_agree_with_scipy_for_regression(regressed: Builder) -> None:
    predictions = regressed(400)
    ours = intervals_of(REGRESSION, predictions.labels, predictions.outputs)
    theirs = stats.bootstrap(
        (predictions.labels, predictions.outputs),
        lambda x, y: stats.pearsonr(x, y).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(2),
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours["pearson"] == pytest.approx(tuple(theirs.confidence_interval), abs=0.1 * width)


def test_bounds_agree_with_scipy_for_classification(classified: Builder) -> None:
    predictions = classified(300)
    ours = intervals_of(CLASSIFICATION, predictions.labels, predictions.outputs)

    def mcc(labels: np.ndarray, predicted: np.ndarray, axis: int) -> np.ndarray:
        # For two classes, Matthews' coefficient is Pearson's correlation of the label ids.
        return stats.pearsonr(labels, predicted, axis=axis).statistic

    theirs = stats.bootstrap(
        (predictions.labels, predictions.predicted),
        mcc,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(2),
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours["mcc"] == pytest.approx(tuple(theirs.confidence_interval), abs=0.1 * width)


def test_precision_and_recall_are_not_confused() -> None:
    labels = np.repeat([1.0, 0.0], 100)
    outputs = np.eye(2)[np.repeat([1, 0, 0], [50, 50, 100])]
    intervals = intervals_of(CLASSIFICATION, labels, outputs)
    assert intervals["precision"] == (1, 1)
    assert 0.35 < intervals["recall"][0] < 0.45 < 0.55 < intervals["recall"][1] < 0.65


def test_intervals_cover_the_true_value_about_as_often_as_their_confidence() -> None:
    """95 % intervals of MCC from 400 samples of 300 rows, drawn from a known confusion matrix."""
    population = np.array([[0.16, 0.16], [0.06, 0.62]])
    truth = float(classification_metrics(population)["mcc"])
    random = np.random.default_rng(5)
    held = 0
    for sample in range(400):
        cells = random.choice(4, size=300, p=population.ravel())
        config = replace(SETTINGS, resamples=500, seed=sample)
        low, high = intervals_of(CLASSIFICATION, cells // 2, np.eye(2)[cells % 2], config)["mcc"]
        held += low <= truth <= high
    assert 0.91 <= held / 400 <= 0.98


def test_intervals_are_reproducible_and_grow_with_confidence(classified: Builder, regressed: Builder) -> None:
    for head, predictions in {"classification": classified(200, 3), "regression": regressed(200)}.items():
        metrics = HEADS[head].compute_metrics(predictions.labels, predictions.outputs)
        intervals = intervals_of(HEADS[head], predictions.labels, predictions.outputs)
        assert intervals == intervals_of(HEADS[head], predictions.labels, predictions.outputs)
        assert tuple(intervals) == HEADS[head].metrics
        narrow = intervals_of(HEADS[head], predictions.labels, predictions.outputs, replace(SETTINGS, confidence=0.5))
        for name, (low, high) in intervals.items():
            assert low < narrow[name][0] < metrics[name] < narrow[name][1] < high


def test_intervals_do_not_depend_on_the_order_of_rows(classified: Builder, regressed: Builder) -> None:
    for head, predictions in {"classification": classified(200, 3), "regression": regressed(200)}.items():
        order = np.random.default_rng(4).permutation(200)
        intervals = intervals_of(HEADS[head], predictions.labels, predictions.outputs)
        shuffled = intervals_of(HEADS[head], predictions.labels[order], predictions.outputs[order])
        assert shuffled == intervals
        other = intervals_of(HEADS[head], predictions.labels, predictions.outputs, replace(SETTINGS, seed=2))
        assert all(other[name] != interval for name, interval in intervals.items())


def test_nan_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        intervals_of(REGRESSION, np.arange(3.0), np.array([0, np.nan, 2]))
