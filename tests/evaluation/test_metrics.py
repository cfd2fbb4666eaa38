"""Metrics against published figures, and in cases where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest

from distilspark.heads import CLASSIFICATION, REGRESSION

pytestmark = pytest.mark.filterwarnings("error")


def from_confusion(counts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and one-hot outputs with the confusion matrix `counts` (true, predicted)."""
    cells = [(true, predicted) for true, row in enumerate(counts) for predicted, n in enumerate(row) for _ in range(n)]
    true, predicted = np.array(cells).T
    return true.astype(float), np.eye(len(counts))[predicted]


def test_a_published_confusion_matrix_gives_its_published_metrics() -> None:
    metrics = CLASSIFICATION.compute_metrics(*from_confusion([[156, 166], [61, 660]]))
    published = {"accuracy": 0.7824, "precision": 0.7990, "recall": 0.9154, "f1": 0.8533, "mcc": 0.4551}
    assert metrics == pytest.approx(published, abs=5e-5)


def test_precision_and_recall_of_three_classes_are_macro_averages() -> None:
    metrics = CLASSIFICATION.compute_metrics(*from_confusion([[8, 2, 0], [1, 9, 0], [0, 5, 5]]))
    assert metrics["recall"] == pytest.approx((0.8 + 0.9 + 0.5) / 3)
    assert metrics["precision"] == pytest.approx((8 / 9 + 9 / 16 + 1) / 3)
    assert metrics["accuracy"] == pytest.approx(22 / 30)


def test_regression_metrics_equal_values_computed_by_hand() -> None:
    metrics = REGRESSION.compute_metrics(np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.5, 1.5, 2.5, 4.5]))
    assert metrics["mse"] == pytest.approx(0.25)
    assert metrics["mae"] == pytest.approx(0.5)
    assert metrics["r2"] == pytest.approx(1 - 1 / 14)
    assert metrics["spearman"] == pytest.approx(1)
    assert metrics["pearson"] == pytest.approx(np.corrcoef([0, 1, 2, 5], [0.5, 1.5, 2.5, 4.5])[0, 1])


@pytest.mark.parametrize("labels", [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0]])
def test_predicting_one_class_has_an_mcc_of_zero(labels: list[float]) -> None:
    outputs = np.tile([0.1, 0.9], (len(labels), 1))
    metrics = CLASSIFICATION.compute_metrics(np.array(labels), outputs)
    assert tuple(metrics) == CLASSIFICATION.metrics
    assert metrics["mcc"] == 0
    assert metrics["accuracy"] == np.mean(labels)


@pytest.mark.parametrize(
    ("labels", "outputs"), [([1.0, 2.0, 3.0], [2.5, 2.5, 2.5]), ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]), ([1.0], [2.0])]
)
def test_constant_labels_or_outputs_have_zero_correlation(labels: list[float], outputs: list[float]) -> None:
    metrics = REGRESSION.compute_metrics(np.array(labels), np.array(outputs))
    assert tuple(metrics) == REGRESSION.metrics
    assert metrics["pearson"] == metrics["spearman"] == 0
    assert metrics["r2"] <= 0


def test_almost_constant_predictions_do_not_warn() -> None:
    outputs = 2.5 + np.array([0, 1e-15, 2e-15, 3e-15])
    assert np.isfinite(REGRESSION.compute_metrics(np.arange(4.0), outputs)["pearson"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_or_infinite_outputs_and_labels_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"\b1 of 3\b.*NaN.*\b1$"):
        REGRESSION.compute_metrics(np.arange(3.0), np.array([0, bad, 2]))
    with pytest.raises(ValueError, match="1 of 3 rows"):
        REGRESSION.compute_metrics(np.array([0, 1, bad]), np.arange(3.0))
    with pytest.raises(ValueError, match="1 of 2 rows"):
        CLASSIFICATION.compute_metrics(np.array([0.0, 1.0]), np.array([[0.5, 0.5], [bad, 0.1]]))


def test_hidden_labels_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels .*\b0 to 1\b"):
        CLASSIFICATION.compute_metrics(np.array([-1.0, 1.0]), np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match=r"regression .*\b1 dim"):
        REGRESSION.compute_metrics(np.arange(2.0), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="no rows"):
        REGRESSION.compute_metrics(np.array([]), np.array([]))


def test_baseline_predicts_the_most_frequent_or_mean_training_label() -> None:
    outputs = CLASSIFICATION.baseline_outputs(np.array([0.0, 2.0, 2.0, 1.0]), 3, 4)
    assert outputs.shape == (3, 4)
    assert (outputs.argmax(axis=1) == 2).all()
    assert outputs.sum(axis=1) == pytest.approx(1)
    assert REGRESSION.baseline_outputs(np.array([1.0, 4.0]), 2, 0).tolist() == [2.5, 2.5]
