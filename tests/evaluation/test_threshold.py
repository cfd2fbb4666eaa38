"""The tuned threshold is optimal and, among equals, closest to .5."""

from __future__ import annotations

import numpy as np
import pytest

from distilspark.evaluation.threshold import tune_threshold
from distilspark.heads import CLASSIFICATION
from distilspark.metrics import METRICS


def score(labels: np.ndarray, probabilities: np.ndarray, threshold: float, metric: str) -> float:
    decided = np.eye(2)[(probabilities > threshold).astype(int)]
    return CLASSIFICATION.compute_metrics(labels, decided)[metric]


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, mostly 1, and correlated probabilities with few distinct values."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.7).astype(float)
    return labels, np.round(np.clip(random.normal(0.25 + 0.2 * labels, 0.15), 0.01, 0.99), 2)


@pytest.mark.parametrize("metric", ["mcc", "accuracy", "f1"])
@pytest.mark.parametrize("seed", range(5))
def test_tuned_threshold_maximizes_the_metric(metric: str, seed: int) -> None:
    labels, probabilities = drawn(80, seed)
    threshold = tune_threshold(labels, probabilities, METRICS[metric])
    found = score(labels, probabilities, threshold, metric)
    others = np.linspace(0.0025, 0.9975, 400)
    scores = np.array([score(labels, probabilities, other, metric) for other in others])
    assert found == pytest.approx(scores.max())
    assert found > score(labels, probabilities, 0.5, metric)
    as_good = np.append(others[scores >= found - 1e-12], threshold)
    gap = np.diff(np.unique([0, *probabilities, 1])).max()
    assert abs(threshold - 0.5) <= abs(as_good - 0.5).min() + gap / 2


def test_of_equally_good_thresholds_the_closest_to_half_is_chosen() -> None:
    labels = np.array([0.0, 1, 0, 1])
    assert tune_threshold(labels, np.array([0.1, 0.2, 0.1, 0.9]), METRICS["mcc"]) == pytest.approx(0.15)
    assert tune_threshold(labels, np.array([0.3, 0.7, 0.4, 0.9]), METRICS["mcc"]) == 0.5
    assert tune_threshold(labels, np.array([0.8, 0.3, 0.8, 0.3]), METRICS["mcc"]) == pytest.approx(0.15), (
        "always the same"
    )


@pytest.mark.parametrize("labels", [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
def test_threshold_stays_at_half_if_all_probabilities_or_labels_are_equal(labels: list[float]) -> None:
    assert tune_threshold(np.array(labels), np.array([0.9, 0.9]), METRICS["mcc"]) == 0.5


def test_threshold_is_tuned_for_every_classification_metric() -> None:
    labels, probabilities = drawn(40, 0)
    assert all(0 < tune_threshold(labels, probabilities, METRICS[metric]) < 1 for metric in CLASSIFICATION.metrics)
