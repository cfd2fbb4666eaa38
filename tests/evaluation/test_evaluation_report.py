"""The whole evaluation, as training calls it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from distilspark.config import EvaluationConfig, TaskConfig
from distilspark.evaluation.predictions import Predictions
from distilspark.evaluation.report import evaluate
from distilspark.heads import REGRESSION

Builder = Callable[..., Predictions]
CONFIG = EvaluationConfig(confidence=0.95, resamples=200, seed=1, examples=5)


def test_classifier_is_evaluated_with_its_baseline(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(200)
    evaluation = evaluate(cola, predictions, np.array([1.0, 1.0, 0.0]), {"ks08"}, CONFIG)
    assert set(evaluation.metrics) == set(evaluation.intervals) == set(evaluation.baseline)
    assert evaluation.baseline["accuracy"] == predictions.labels.mean()
    assert evaluation.baseline["mcc"] == 0
    low, high = evaluation.intervals["mcc"]
    assert 0 < low < evaluation.metrics["mcc"] < high
    assert evaluation.report is not None
    assert "unacceptable" in evaluation.report
    assert f"{evaluation.metrics['precision']:.4f}" in evaluation.report
    assert len(evaluation.examples) == 10
    assert "calibration" in evaluation.figures


def test_regressor_is_evaluated_with_its_baseline(stsb: TaskConfig, regressed: Builder) -> None:
    evaluation = evaluate(stsb, regressed(200), np.array([2.0, 3.0]), set(), CONFIG)
    assert tuple(evaluation.metrics) == REGRESSION.metrics
    assert evaluation.baseline["pearson"] == 0
    assert evaluation.baseline["mse"] > evaluation.metrics["mse"]
    assert evaluation.report is None
    assert set(evaluation.slices["slice"]) == {"length", "score band"}
    assert "error_by_score_band" in evaluation.figures


def test_outputs_with_the_wrong_number_of_classes_are_refused(cola: TaskConfig, classified: Builder) -> None:
    with pytest.raises(ValueError, match=r"\(50, 3\) .*task=cola"):
        evaluate(cola, classified(50, 3), np.array([1.0, 0.0]), set(), CONFIG)


def test_rows_and_labels_of_different_length_are_refused(classified: Builder) -> None:
    predictions = classified(10)
    with pytest.raises(ValueError, match="differ in length"):
        Predictions(predictions.rows.head(9), predictions.labels, predictions.outputs)
